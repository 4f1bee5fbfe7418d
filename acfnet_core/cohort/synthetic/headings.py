"""The public cohort's columns in the words of a German and of a French hospital."""

from acfnet_core.cohort.synthetic.table import COLUMNS, RESECTION_DATE_COLUMN

_TRANSLATED: dict[str, tuple[str, str]] = {
    "Patient-ID": ("Patientennummer", "Numéro de patient"),
    "De-identify Scout Name": ("Arbeitsname", "Nom de travail"),
    "age": ("Alter (Jahre)", "Âge (ans)"),
    "sex": ("Geschlecht", "Sexe"),
    "major_comorbidity": ("Schwere Begleiterkrankung", "Comorbidité majeure"),
    "body_mass_index": ("Body-Mass-Index", "IMC"),
    "node_positive_primary": ("Primärtumor N+", "Primitif N+"),
    "synchronous_crlm": ("Synchrone Metastasen", "Métastases synchrones"),
    "multiple_metastases": ("Mehrere Metastasen", "Métastases multiples"),
    "clinrisk_score": ("Fong-Score", "Score de Fong"),
    "clinrisk_stratified": ("Fong-Score >= 3", "Score de Fong >= 3"),
    "carcinoembryonic_antigen": ("CEA (ng/ml)", "ACE (ng/ml)"),
    "max_tumor_size": ("Größter Durchmesser (mm)", "Plus grand diamètre (mm)"),
    "bilobar_disease": ("Befall beider Lappen", "Atteinte bilobaire"),
    "extrahep_disease": ("Befall außerhalb der Leber", "Maladie extra-hépatique"),
    "chemo_before_liver_resection": ("Chemotherapie vor OP", "Chimiothérapie avant"),
    "preoperative_pve": ("Pfortaderembolisation", "Embolisation portale"),
    RESECTION_DATE_COLUMN: ("OP-Datum", "Date de résection"),
    "steatosis_yesno": ("Steatose", "Stéatose"),
    "presence_sinusoidal_dilata": ("Sinusdilatation", "Dilatation sinusoïdale"),
    "NASH_score": ("NASH-Score", "Score NASH"),
    "NASH_yesno": ("NASH", "NASH"),
    "NASH_greater_4": ("NASH-Score >= 4", "Score NASH >= 4"),
    "total_response_percent": ("Ansprechen gesamt", "Réponse totale"),
    "necrosis_percent": ("Nekrose", "Nécrose"),
    "fibrosis_percent": ("Fibrose", "Fibrose"),
    "fibrosis_greater_40_percent": ("Fibrose > 40 %", "Fibrose > 40 %"),
    "mucin_percent": ("Muzin", "Mucine"),
    "overall_survival_months": ("Gesamtüberleben (Monate)", "Survie globale (mois)"),
    "vital_status": ("Verstorben", "Décédé"),
    "progression_or_recurrence": ("Rezidiv", "Récidive"),
    "months_to_DFS_progression": ("Krankheitsfrei (Monate)", "Sans maladie (mois)"),
    "vital_status_DFS": ("Rezidiv oder Tod", "Récidive ou décès"),
    "progression_or_recurrence_liveronly": ("Leberrezidiv", "Récidive hépatique"),
    "months_to_liver_DFS_progression": (
        "Leber rezidivfrei (Monate)",
        "Foie sans récidive (mois)",
    ),
    "vital_status_liver_DFS": (
        "Leberrezidiv oder Tod",
        "Récidive hépatique ou décès",
    ),
    "relevant_notes": ("Bemerkungen", "Remarques"),
}

GERMAN = {_TRANSLATED[name][0]: name for name in COLUMNS}
FRENCH = {_TRANSLATED[name][1]: name for name in COLUMNS}
"""Heading -> the public cohort's name of the column, in the public order."""
