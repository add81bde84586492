"""A named list of runs: skipped when finished, continued when not, shared by as many processes as are started."""

import time
from collections.abc import Callable
from pathlib import Path

from resnet_nb.data import Images
from resnet_nb.errors import InUseError
from resnet_nb.recipes import Job, recipe_for
from resnet_nb.runs.training import run

Report = Callable[[str], None]


def sweep(
    jobs: list[Job],
    data: Images,
    out: Path,
    iterations: int | None = None,
    report: Report = print,
    batch_size: int | None = None,
    **settings,
) -> bool:
    """Train every job in its own folder below `out`; True if all are finished.

    Finished runs are skipped and unfinished ones continued; a run that another process is busy with is left to it, so the same
    sweep can be started several times on one folder. iterations and batch_size change the recipes as in `recipe_for`.
    settings: device, precision, source and deadline of `run`; the sweep, too, stops before a deadline. report gets one line per
    job. Raises as `run`, but FloatingPointError only after the other jobs.
    """
    left, failed, deadline = 0, 0, settings.get("deadline")
    for number, job in enumerate(jobs, 1):
        label = f"[{number}/{len(jobs)}] {job.folder}"
        recipe = recipe_for(job.recipe, job.model, iterations, batch_size)
        try:
            last = run(job.model, data, Path(out) / job.folder, recipe, job.seed, overrides=job.overrides, **settings)
        except InUseError:
            report(f"{label}: left to the process that is busy with it")
            left += 1
            continue
        except FloatingPointError as error:
            report(f"{label}: failed, {error}")
            failed += 1
            continue
        if last is None:
            report(f"{label}: stopped by the time limit")
            return False
        report(f"{label}: test error {last['test_error']:.2f} % after {last['iteration']:,} iterations")
        if deadline is not None and time.monotonic() > deadline and number < len(jobs):
            return False
    if failed:
        raise FloatingPointError(f"the loss was not finite in {failed} of {len(jobs)} runs")
    return not left
