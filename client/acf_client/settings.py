"""The settings of a site, site.toml: their form, and how they are first written."""

import json
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from acfnet_core.cohort.data_settings import DataConfig

SETTINGS_NAME = "site.toml"

MIN_DEVICES = 2
_DeviceName = Annotated[str, StringConstraints(pattern=r"^(cpu|cuda:[0-9]{1,2})$")]


class ComputeConfig(BaseModel):
    """What the site computes with; section [compute]."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    device: Annotated[
        str, StringConstraints(pattern=r"^(auto|cpu|mps|cuda(:[0-9]{1,2})?)$")
    ] = "auto"
    """auto, cpu, cuda, cuda:<number> or mps."""
    devices: tuple[_DeviceName, ...] = ()
    """Two or more share every training step, a process for each; in place of
    `device`."""
    num_threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """CPU threads of one operation; unset, as many as torch takes by itself. A run is
    repeated bit for bit only with the same number."""
    physical_batch_size: Annotated[int, Field(ge=1)] | None = None
    """Most patients in memory at once; unset, all of a step's."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the image branch while training."""
    channels_last: bool = False
    """Keep the channels of a volume beside each other in memory while training."""
    compile: bool = False
    """Let torch.compile make kernels for training."""
    checkpointing: bool = False
    """Compute the image branch twice rather than keep what is inside its blocks."""

    @model_validator(mode="after")
    def _devices_are_of_one_kind(self) -> Self:
        if not self.devices:
            return self
        if self.device != "auto":
            raise ValueError("give either device or devices")
        kinds = {name.partition(":")[0] for name in self.devices}
        num_different = len(set(self.devices))
        if len(self.devices) < MIN_DEVICES or len(kinds) > 1:
            raise ValueError(
                f"devices: got {list(self.devices)}; expected two or more of one kind"
            )
        if kinds == {"cuda"} and num_different < len(self.devices):
            raise ValueError("devices: a GPU is named twice")
        return self


class SiteConfig(BaseModel):
    """The settings in site.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format_version: Literal[1] = 1
    data: DataConfig
    compute: ComputeConfig = ComputeConfig()


def settings_text(config: SiteConfig) -> str:
    """Write site.toml with its comments."""
    data = config.data
    images = (
        '# images = "/path/to/dicom"'
        if data.images is None
        else f"images = {_quote(str(data.images))}"
    )
    columns = "\n".join(
        f"{_quote(heading)} = {_quote(name)}" for heading, name in data.columns.items()
    )
    labels = "\n".join(
        f"{value} = {_quote(names)}" for value, names in data.nifti_labels.items()
    )
    table = "\n".join(
        f"{name} = {_inline(value)}"
        for name, value in data.table.model_dump(exclude_defaults=True).items()
    )
    number = config.compute.num_threads
    threads = "# num_threads = 4" if number is None else f"num_threads = {number}"
    return f"""\
# The site's settings. `acf-client init` wrote this file; change it as you need.

format_version = {config.format_version}

[data]
# The clinical table: CSV or xlsx, one row per patient. It is read, never changed.
clinical_table = {_quote(str(data.clinical_table))}

# The folder of CT series and segmentations; leave it out if there is none.
{images}

[data.columns]
# "heading in your table" = "name in the data contract", only where the two differ.
{columns}

[data.table]
# How values are written, only where it is not as the contract says. Columns go by the
# contract's names; docs/data-contract.md has all settings.
# decimal_mark = ","
# missing_codes = ["n/a"]
# date_formats = {{ date_of_liver_resection = "%d.%m.%Y" }}
# codes = {{ sex = {{ m = "1", f = "2" }} }}
# unit_factors = {{ max_tumor_size = 0.1 }}
{table}

[data.nifti_labels]
# Only where segmentations are NIfTI masks: value in the masks = "segment", or several.
# 1 = "Liver"
# 2 = ["Liver", "Tumor"]
{labels}

[data.repairs]
# A series with one of these faults is refused, unless you set its line to true.
# Slices evenly shifted sideways: read them where they lie.
gantry_tilt = {_truth(data.repairs.gantry_tilt)}
# A lost slice between two that are there: interpolate it.
missing_slices = {_truth(data.repairs.missing_slices)}
# Files without UIDs: make them up from the files' places.
empty_uids = {_truth(data.repairs.empty_uids)}
# Files without a patient identifier: take the name of the topmost folder.
patient_from_folder = {_truth(data.repairs.patient_from_folder)}

[compute]
# auto, cpu, cuda, cuda:1 or mps
device = {_quote(config.compute.device)}

# CPU threads for training; left out, torch decides.
{threads}

# More settings, such as several GPUs or less memory, are in docs/training.md.
"""


def _inline(value: Any) -> str:
    """Write a value on one line, a table too."""
    if isinstance(value, dict):
        pairs = (f"{_quote(key)} = {_inline(one)}" for key, one in value.items())
        return f"{{ {', '.join(pairs)} }}"
    return _quote(value)


def _truth(value: bool) -> str:
    return "true" if value else "false"


def _quote(value: str | float | tuple[str, ...]) -> str:
    """Write TOML basic strings, which are JSON's but for one control character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
