"""Half an hour on one CUDA GPU: the nets of Figure 6 at full length, then more seeds, several at once.

    python -m tools.gpu --out runs/table6 --together 4 --seconds 1500

trains the runs of `PLAN` in their order, those of the paper's figure first, each in the folder that
`python -m resnet_nb sweep table6` would give it. It may be killed at any time and started again: finished runs are left
alone, others continue from a checkpoint that is a few seconds old. `--pack FOLDER` writes what is there, finished runs
first, to files of at most 15 MB that fit through narrow doors: `cat FOLDER/runs.tar.* | tar xf -` unpacks them.

One small net leaves most of a GPU idle between its kernels. Nets that are replayed on streams of their own, from threads
of one process, fill these gaps; processes of their own would take turns.
"""

import argparse
import io
import tarfile
import threading
import time
from pathlib import Path

import torch

from resnet_nb import data
from resnet_nb.data import Images
from resnet_nb.recipes import SWEEPS, Job, recipe_for
from resnet_nb.runs import run
from resnet_nb.train import float32_as

PIECE = 15_000_000  # bytes of one file of a pack
# the longest first, beside it Figure 6 from its ends inward, and what a second seed says of 20 layers
ORDER = [("cifar-resnet110", 0), *((f"cifar-{kind}{depth}", 0) for depth in (56, 20) for kind in ("resnet", "plain"))]
ORDER += [("cifar-resnet20", 1), ("cifar-plain20", 1)]
ORDER += [(f"cifar-{kind}{depth}", 0) for depth in (32, 44) for kind in ("resnet", "plain")]
ORDER += [(f"cifar-{kind}{depth}", seed) for seed in (1, 2) for depth in (56, 20) for kind in ("resnet", "plain")]
ORDER += [("cifar-plain110", 0), ("cifar-resnet110", 1)]
PLAN = [next(job for job in SWEEPS["table6"] if (job.model, job.seed) == wanted) for wanted in dict.fromkeys(ORDER)]


def train(jobs: list[Job], images: Images, out: Path, precision: str, together: int, seconds: float) -> list[str]:
    """Train `jobs` in `together` threads for at most `seconds`; returns a line for each that began."""
    deadline, waiting, lines = time.monotonic() + seconds, list(jobs), []

    def say(job: Job, what: str) -> None:
        lines.append(f"{job.folder}: {what}")
        print(f"{seconds - deadline + time.monotonic():5.0f} s  {lines[-1]}", flush=True)

    def work() -> None:
        with torch.cuda.stream(torch.cuda.Stream()):
            while waiting and time.monotonic() < deadline:
                job = waiting.pop(0)
                began, recipe = time.monotonic(), recipe_for(job.recipe, job.model)
                settings = {"precision": precision, "source": "cifar10", "deadline": deadline, "save_seconds": 15.0}
                try:
                    last = run(job.model, images, out / job.folder, recipe, job.seed, "cuda", **settings)
                except (ValueError, RuntimeError, FloatingPointError) as error:  # the other trainings go on
                    say(job, f"failed, {type(error).__name__}: {error}")
                    continue
                end = "stopped by the time limit" if last is None else f"test error {last['test_error']:.2f} %"
                say(job, f"{end}, {time.monotonic() - began:.0f} s")

    # set once for all threads: what each sets again for itself is the same
    with float32_as(precision):
        threads = [threading.Thread(target=work, daemon=True) for _ in range(together)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return lines


def pack(out: Path, folder: Path, pieces: int) -> None:
    """Write the run folders below `out` to at most `pieces` files in `folder`: finished runs first, as many as fit."""
    names = ("run.json", "log.jsonl", "weights.safetensors", "checkpoint.pt")
    files = [[path for name in names if (path := run / name).exists()] for run in sorted(out.iterdir())]
    room, buffer = pieces * PIECE - 20_000, io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for run_files in sorted(files, key=lambda found: names[2] not in [path.name for path in found]):
            content = [(f"{path.parent.name}/{path.name}", path.read_bytes()) for path in run_files]
            size = sum(len(part) + 2_000 for _, part in content)  # with its header and padding
            if size > room:
                print(f"no room for {run_files[0].parent.name}, {size:,} bytes")
                continue
            room -= size
            for name, part in content:
                entry = tarfile.TarInfo(name)
                entry.size, entry.mtime = len(part), int(time.time())
                tar.addfile(entry, io.BytesIO(part))
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(pieces):
        if piece := buffer.getvalue()[number * PIECE : (number + 1) * PIECE]:
            (folder / f"runs.tar.{number}").write_bytes(piece)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/table6"), help="folder of the runs")
    parser.add_argument("--data", default="cifar10", help="as for the command train")
    parser.add_argument("--precision", choices=["float32", "bf16"], default="bf16")
    parser.add_argument("--together", type=int, default=4, help="nets at once")
    parser.add_argument("--seconds", type=float, default=1500, help="of training; what is unfinished then has a checkpoint")
    parser.add_argument("--pack", type=Path, metavar="FOLDER", help="train nothing, write the runs to files in FOLDER")
    parser.add_argument("--pieces", type=int, default=4, help="files of 15 MB that a pack may have")
    parser.add_argument("nets", nargs="*", metavar="NET[:SEED]", help="train these instead of the plan")
    args = parser.parse_args()
    if args.pack is not None:
        pack(args.out, args.pack, args.pieces)
        return
    jobs = [Job(net, int(seed or 0)) for net, _, seed in (name.partition(":") for name in args.nets)] or PLAN
    images = data.load(args.data).to("cuda")
    assert images.fingerprint  # worked out once, before the threads
    train(jobs, images, args.out, args.precision, args.together, args.seconds)


if __name__ == "__main__":
    main()
