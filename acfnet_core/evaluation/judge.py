"""Judging a model on held-out patients: from predictions to a verdict.

Axes: `patient` held-out; `training` training patients; `bin` of predicted survival.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float

from acfnet_core.evaluation.baselines import KAPLAN_MEIER, KaplanMeierBaseline
from acfnet_core.evaluation.cautions import collect_warnings
from acfnet_core.evaluation.discrimination import DEFAULT_TAU_MONTHS
from acfnet_core.evaluation.headline import write_headline
from acfnet_core.evaluation.held_out import HeldOut
from acfnet_core.evaluation.kaplan_meier import estimate_kaplan_meier
from acfnet_core.evaluation.risk_groups import (
    THIRDS,
    draw_group_curves,
    group_by_risk,
    log_rank_p,
)
from acfnet_core.evaluation.scoring import (
    HIGHER_IS_BETTER,
    Predictions,
    compare_models,
    score_model,
)
from acfnet_core.evaluation.temporal_adjacency import temporal_adjacency_accuracy
from acfnet_core.evaluation.verdict import GroupCurve, TemporalAdjacency, Verdict

DEFAULT_NUM_BOOTSTRAP = 1000
DEFAULT_MINIMUM_CELL = 10
_RISK_DEFINITION = (
    "minus the event-free months expected up to {:.1f} months "
    "(restricted mean survival)"
)


def judge(
    *,
    time_months: Float[np.ndarray, " patient"],
    event: Bool[np.ndarray, " patient"],
    predictions: Mapping[str, Float[np.ndarray, "patient bin"]],
    bin_edges_months: Float[np.ndarray, " bin"],
    train_time_months: Float[np.ndarray, " training"] | None = None,
    train_event: Bool[np.ndarray, " training"] | None = None,
    num_training_patients: int | None = None,
    num_bootstrap: int = DEFAULT_NUM_BOOTSTRAP,
    bootstrap_seed: int = 0,
    minimum_cell: int = DEFAULT_MINIMUM_CELL,
    tau_months: float = DEFAULT_TAU_MONTHS,
    supported_months: float | None = None,
    landmark_months: float | None = None,
) -> Verdict:
    """Judge the first of the predictions beside the others.

    Concordance needs one number per patient. It is minus the event-free months expected
    up to tau, for every model alike. The AUC of a year uses the predicted probability
    of the event by then.

    Args:
        time_months: Time to event or censoring of the held-out patients.
        event: True where the event was observed.
        predictions: By name, the survival at the bin edges. The first is the model that
            is judged. A row of NaN is a patient without a prediction. Kaplan-Meier is
            added if it is not among them.
        bin_edges_months: The right edges of the bins.
        train_time_months: Outcomes that give the censoring weights and the added
            Kaplan-Meier. None takes the held-out patients, with a warning.
        train_event: The same patients' events.
        num_training_patients: On how many the model was trained; by default the number
            of training outcomes given.
        num_bootstrap: Resamples of each interval.
        bootstrap_seed: Same seed, same intervals.
        minimum_cell: No smaller group is shown.
        tau_months: The horizon; cut to the follow-up and to what is supported, with a
            warning.
        supported_months: How far the judged model's hazards rest on patients at risk;
            no figure of any model reaches beyond it. None is the last bin edge.
        landmark_months: Months after the resection from which all times here count, to
            be told in the verdict. None is from the resection.

    Returns:
        The verdict. A figure that the patients do not determine is None in it.

    Raises:
        ValueError: Outcomes, predictions or settings are not usable.
    """
    if not predictions:
        raise ValueError("There are no predictions to judge.")
    if (train_time_months is None) != (train_event is None):
        raise ValueError("Give both train_time_months and train_event, or neither.")
    has_training = train_time_months is not None and train_event is not None
    weighting_time = time_months if train_time_months is None else train_time_months
    weighting_event = event if train_event is None else train_event
    held_out = HeldOut.prepare(
        time_months,
        event,
        bin_edges_months,
        train_time_months=weighting_time,
        train_event=weighting_event,
        tau_months=tau_months,
        num_bootstrap=num_bootstrap,
        bootstrap_seed=bootstrap_seed,
        minimum_cell=minimum_cell,
        supported_months=supported_months,
    )
    average = KaplanMeierBaseline.fit(weighting_time, weighting_event)
    reference = average.predict_survival(len(event), held_out.bin_edges_months)
    if has_training and num_training_patients is None:
        num_training_patients = len(weighting_event)
    return _assemble(
        held_out,
        # A Kaplan-Meier among the predictions keeps its place and its curves.
        {**predictions, KAPLAN_MEIER: predictions.get(KAPLAN_MEIER, reference)},
        wanted_tau_months=tau_months,
        has_training_outcomes=has_training,
        num_training_patients=num_training_patients,
        bootstrap_seed=bootstrap_seed,
        landmark_months=landmark_months,
    )


def _assemble(
    held_out: HeldOut,
    curves: dict[str, Float[np.ndarray, "patient bin"]],
    *,
    wanted_tau_months: float,
    has_training_outcomes: bool,
    num_training_patients: int | None,
    bootstrap_seed: int,
    landmark_months: float | None,
) -> Verdict:
    """Compute every part and put them together."""
    (name, survival), *references = curves.items()
    scores = [
        score_model(held_out, one, curves[one], curves[KAPLAN_MEIER]) for one in curves
    ]
    differences = [
        compare_models(held_out, metric, (name, survival), reference)
        for reference in references
        for metric in HIGHER_IS_BETTER
    ]
    num_events = int(held_out.event.sum())
    model = Predictions(held_out, survival)
    groups, p_value, group_warnings = _divide(model)
    warnings = collect_warnings(
        held_out,
        scores,
        wanted_tau_months=wanted_tau_months,
        has_training_outcomes=has_training_outcomes,
    )
    reverse = estimate_kaplan_meier(held_out.time_months, ~held_out.event)
    return Verdict(
        model=name,
        headline=write_headline(held_out.num_patients, num_events, scores, differences),
        num_patients=held_out.num_patients,
        num_events=num_events,
        median_follow_up_months=reverse.median_months(),
        num_training_patients=num_training_patients,
        tau_months=held_out.tau_months,
        supported_months=held_out.supported_months,
        landmark_months=landmark_months,
        risk_definition=_RISK_DEFINITION.format(held_out.tau_months),
        brier_window_months=_brier_window(held_out),
        scores=scores,
        differences=differences,
        risk_groups=groups,
        log_rank_p=p_value,
        temporal_adjacency=_adjacency(model),
        num_bootstrap=len(held_out.counts),
        bootstrap_seed=bootstrap_seed,
        minimum_cell=held_out.minimum_cell,
        warnings=warnings + group_warnings,
    )


def _divide(model: Predictions) -> tuple[list[GroupCurve], float | None, list[str]]:
    """Cut the patients into thirds of the model's risk and compare their curves."""
    minimum_cell = model.held_out.minimum_cell
    if model.num_patients < minimum_cell:
        return [], None, []
    label = group_by_risk(model.risk(), len(THIRDS))
    if int(label.max()) + 1 < len(THIRDS):
        tied = "Too many patients share one predicted risk: no risk thirds are drawn."
        return [], None, [tied]
    curves = draw_group_curves(model.time_months, model.event, label, minimum_cell)
    warnings = []
    if len(curves) < len(THIRDS):
        warnings.append(
            f"Risk thirds with fewer than {minimum_cell} patients are left out."
        )
    return curves, log_rank_p(model.time_months, model.event, label), warnings


def _adjacency(model: Predictions) -> TemporalAdjacency | None:
    if model.num_patients == 0:
        return None
    edges = model.held_out.bin_edges_months
    is_supported = edges <= model.held_out.supported_months
    if not is_supported.any():
        return None
    return temporal_adjacency_accuracy(
        model.time_months,
        model.event,
        model.survival[:, is_supported],
        edges[is_supported],
    )


def _brier_window(held_out: HeldOut) -> tuple[float, float] | None:
    months = held_out.brier_months
    return (float(months[0]), float(months[-1])) if months.size else None
