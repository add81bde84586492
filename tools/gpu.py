"""Half an hour on one CUDA GPU: the nets of Figure 6 at full length, then more seeds, several at once.

    python -m tools.gpu --out runs/table6 --together 3 --seconds 1500

trains the runs of `PLAN` in their order, those of the paper's figure first, each in the folder that
`python -m resnet_nb sweep table6` would give it. It may be killed at any time and started again: finished runs are left
alone, others continue from a checkpoint that is a few seconds old. `--pack FOLDER` writes what is there, finished runs
first, to files of at most 15 MB that fit through narrow doors: `cat FOLDER/runs.tar.* | tar xf -` unpacks them.

One small net leaves most of a GPU idle between its kernels. Nets that are replayed on streams of their own, from threads
of one process, fill these gaps; processes of their own would take turns.
"""

import argparse
import io
import queue
import sys
import tarfile
import threading
import time
from pathlib import Path

import torch
from packaging.version import Version

from resnet_nb import data
from resnet_nb.data import Images
from resnet_nb.errors import InputError, first_line, require_int
from resnet_nb.recipes import Job, Recipe, network, recipe_for
from resnet_nb.runs import run

PIECE = 15_000_000  # bytes of one file of a pack
MOST = 16  # nets at once: each takes two of the 32 streams that torch hands out in turn
# the longest first, beside it Figure 6 from its ends inward, and what a second seed says of 20 layers
ORDER = [("cifar-resnet110", 0), *((f"cifar-{kind}{depth}", 0) for depth in (56, 20) for kind in ("resnet", "plain"))]
ORDER += [("cifar-resnet20", 1), ("cifar-plain20", 1)]
ORDER += [(f"cifar-{kind}{depth}", 0) for depth in (32, 44) for kind in ("resnet", "plain")]
ORDER += [(f"cifar-{kind}{depth}", seed) for seed in (1, 2) for depth in (56, 20) for kind in ("resnet", "plain")]
ORDER += [("cifar-plain110", 0), ("cifar-resnet110", 1)]
PLAN = [Job(net, seed) for net, seed in dict.fromkeys(ORDER)]


def train(jobs: list[Job], images: Images, out: Path, precision: str, together: int, seconds: float) -> dict[str, str]:
    """Train `jobs` in `together` threads for at most `seconds`: what became of each, by folder; those not begun are left out.

    Raises InputError on a job that cannot be trained, before any is begun.
    """
    waiting: queue.SimpleQueue = queue.SimpleQueue()
    for job in jobs:
        waiting.put((job, recipe_for(job.recipe, job.model)))
    deadline, ends = time.monotonic() + seconds, {}

    def one(job: Job, recipe: Recipe) -> str:
        began = time.monotonic()
        settings = {"precision": precision, "deadline": deadline, "save_seconds": 15.0}
        try:
            last = run(job.model, images, out / job.folder, recipe, job.seed, "cuda", **settings)
        except Exception as error:  # whatever it is: it is told, and the other trainings go on
            return f"failed, {type(error).__name__}: {first_line(error)}"
        end = "stopped by the time limit" if last is None else f"test error {last['test_error']:.2f} %"
        return f"{end}, {time.monotonic() - began:.0f} s"

    def in_turn() -> None:
        with torch.cuda.stream(torch.cuda.Stream()):
            while time.monotonic() < deadline:
                try:
                    job, recipe = waiting.get_nowait()
                except queue.Empty:
                    return
                ends[job.folder] = one(job, recipe)
                print(f"{seconds - deadline + time.monotonic():5.0f} s  {job.folder}: {ends[job.folder]}", flush=True)

    threads = [threading.Thread(target=in_turn, daemon=True) for _ in range(together)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ends


def pack(out: Path, folder: Path, pieces: int) -> None:
    """Write the run folders below `out` to at most `pieces` files in `folder`: finished runs first, as many as fit.

    Raises InputError if there are no runs.
    """
    folders = sorted(path.parent for path in out.glob("*/run.json"))
    if not folders:
        raise InputError(f"there are no runs below {out}")
    names = ("run.json", "log.jsonl", "weights.safetensors", "checkpoint.pt")
    files = [[path for name in names if (path := parent / name).exists()] for parent in folders]
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
    for old in folder.glob("runs.tar.*"):
        old.unlink()
    for number in range(pieces):
        if piece := buffer.getvalue()[number * PIECE : (number + 1) * PIECE]:
            (folder / f"runs.tar.{number:03}").write_bytes(piece)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/table6"), help="folder of the runs")
    parser.add_argument("--data", default="cifar10", help="as for the command train")
    parser.add_argument("--precision", choices=["float32", "bf16"], default="bf16")
    parser.add_argument("--together", type=int, default=3, help=f"nets at once, 1 to {MOST}")
    parser.add_argument("--seconds", type=float, default=1500, help="of training; what is unfinished then has a checkpoint")
    parser.add_argument("--pack", type=Path, metavar="FOLDER", help="train nothing, write the runs to files in FOLDER")
    parser.add_argument("--pieces", type=int, default=4, help="files of 15 MB that a pack may have")
    parser.add_argument("nets", nargs="*", metavar="NET[:SEED]", help="train these instead of the plan")
    args = parser.parse_args()
    try:
        return work(args)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def work(args: argparse.Namespace) -> int:
    """Do what the command line says; the exit code is 1 if a run failed."""
    require_int("together", args.together, 1, MOST)
    require_int("pieces", args.pieces, 1)
    if args.pack is not None:
        pack(args.out, args.pack, args.pieces)
        return 0
    jobs = [named(text) for text in args.nets] or PLAN
    if not torch.cuda.is_available():
        raise InputError("there is no CUDA GPU; `python -m resnet_nb sweep` trains on a CPU")
    if args.together > 1 and Version(torch.__version__) < Version("2.7"):
        raise InputError(f"torch {torch.__version__} cannot record one net while another one trains; use --together 1")
    images = data.load(args.data).to("cuda")
    assert images.fingerprint  # worked out once, before the threads
    ends = train(jobs, images, args.out, args.precision, args.together, args.seconds)
    print(f"not begun: {', '.join(job.folder for job in jobs if job.folder not in ends) or 'none'}")
    return int(any(end.startswith("failed") for end in ends.values()))


def named(text: str) -> Job:
    """NET or NET:SEED as a job. Raises InputError on another form or name."""
    net, _, seed = text.partition(":")
    network(net)
    if seed and not seed.isdecimal():
        raise InputError(f"a net is given as NET or NET:SEED, for example cifar-resnet56:1, got {text!r}")
    return Job(net, int(seed or 0))


if __name__ == "__main__":
    sys.exit(main())
