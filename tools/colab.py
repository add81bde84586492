"""The notebooks as they start in Colab: an empty folder, the package not installed, its address not yet public.

    python -m tools.colab PYTHON [NB ...]      in build/colab, made of PYTHON and of Colab's versions

Git is told to fetch this checkout, as it is now, instead of the address in the first cell.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

from tools import ROOT, chapters, kernels
from tools.notebooks import repository
from tools.stored import NotebookError

# What Colab brings (read in August 2026). Installing us must change none of it.
COLAB_PYTHON = "3.13"
COLAB = {
    "pip": "24.1.2",
    "torch": "2.11.0",
    "torchvision": "0.26.0",
    "numpy": "2.1.3",
    "pandas": "2.2.3",
    "matplotlib": "3.10.0",
    "seaborn": "0.13.2",
    "tqdm": "4.67.3",
    "ipython": "7.34.0",
    "ipykernel": "6.17.1",
    "ipywidgets": "7.7.1",
    "pytest": "8.4.2",
}
GITHUB = "https://github.com/"
# What steers git, Python and pytest here must not steer them there.
ENV = {k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "PYTHON", "PYTEST", "MPL"))}
GIT = ["git", "-c", "safe.directory=*"]  # the checkout of another owner, too: it is only read
STRICT = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval", "--nbval-current-env", "--nbval-cell-timeout=600"]
# The first one counts, as for `import`: pip cannot remove what lies outside an environment, it installs beside it.
INSTALLED = """import importlib.metadata, json
found = reversed([*importlib.metadata.distributions()])
print(json.dumps({d.name: f"{d.version} {d.read_text('direct_url.json') or ''}" for d in found}))"""


def call(*command, env=ENV, **options):
    """What a command prints on stdout; a NotebookError with everything it prints, if it fails."""
    text = {"encoding": sys.getfilesystemencoding(), "errors": "surrogateescape"}  # git's names of files stay whole
    done = subprocess.run(command, env=env, capture_output=True, **text, **options)
    if done.returncode:
        command = " ".join(map(str, command))
        raise NotebookError(f"{command}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def not_a_clone(root=ROOT):
    """Why git does not list the files of the checkout, in a line; "" if it does."""
    if not shutil.which("git"):
        return "git is not installed"
    try:
        above = call(*GIT, "rev-parse", "--show-cdup", cwd=root).strip()
    except NotebookError as error:
        return f"git does not read this checkout: {str(error).splitlines()[-1]}"
    return "this folder is no clone, it lies in one" if above else ""


def copy_checkout(to, root=ROOT):
    """The files of the checkout as they are now, without what git ignores."""
    for name in call(*GIT, "ls-files", "-coz", "--exclude-standard", cwd=root).split("\0"):
        if (root / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, to / name)


def publish(folder, root=ROOT):
    """Make a repository of the checkout below `folder`; the environment in which git takes it for GitHub's."""
    repo = folder / repository(root)
    copy_checkout(repo, root)
    author = ["-c", "user.name=trial", "-c", "user.email=trial", "-c", "commit.gpgsign=false"]
    call("git", "init", "-q", cwd=repo)
    call("git", "add", "-A", cwd=repo)
    call("git", *author, "commit", "-q", "-m", "trial", cwd=repo)
    rewritten = {"GIT_CONFIG_KEY_0": f"url.{folder.as_uri()}/.insteadOf", "GIT_CONFIG_VALUE_0": GITHUB}
    # Only `file:` is allowed, so that a wrong address is not looked for on the network.
    return ENV | rewritten | {"GIT_CONFIG_COUNT": "1", "GIT_ALLOW_PROTOCOL": "file"}


def installed(python, env):
    """{package: its version and the address it came from}."""
    return json.loads(call(python, "-c", INSTALLED, env=env, cwd="/"))


def trial(python, notebook, env):
    """Run a notebook strictly, alone in an empty folder. What its first cell had to add, as `installed`."""
    before = installed(python, env)
    if "resnet-nb" in before:
        raise NotebookError(f"{python}: resnet-nb is installed, so the first cell would do nothing")
    try:
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as own:
            shutil.copy(notebook, folder)
            clean = kernels.environment(own, env) | {"PYTHONPATH": ""}  # nothing of this checkout
            call(python, *STRICT, notebook.name, cwd=folder, env=clean)
    finally:
        after = installed(python, env)
        added = {name: version for name, version in after.items() if name not in before}
        call(python, "-m", "pip", "uninstall", "-q", "-y", "resnet-nb", *added, env=env, cwd="/")
    if changed := [f"{name} {before[name]}" for name in before if after.get(name) != before[name]]:
        raise NotebookError(f"{notebook.name}: the first cell changed {', '.join(changed)}")
    return added


def environment(python, folder):
    """The Python of an environment with Colab's versions, made by `python`."""
    inside = folder / "bin" / "python"
    call(python, "-m", "venv", folder)
    call(inside, "-m", "pip", "install", "-q", *(f"{name}=={version}" for name, version in COLAB.items()), "nbval")
    call(inside, "-m", "pip", "uninstall", "-q", "-y", "resnet-nb")  # left by a trial that was killed
    return inside


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("python", help=f"makes build/colab; Colab has Python {COLAB_PYTHON}")
    parser.add_argument("notebooks", nargs="*", type=pathlib.Path, help="default: all")
    args, failed = parser.parse_args(argv), []
    if why := not_a_clone():
        sys.exit(f"the trial publishes what git lists: {why}")
    with tempfile.TemporaryDirectory() as folder:
        print("Making build/colab. The first time this downloads up to 3 GB.", flush=True)
        try:
            python = environment(args.python, ROOT / "build" / "colab")
            env = publish(pathlib.Path(folder))
        except (NotebookError, OSError) as error:
            sys.exit(str(error))
        for path in args.notebooks or chapters(ROOT / "notebooks", say=True):
            began = time.perf_counter()
            try:
                added = trial(python, path, env)
                seconds = time.perf_counter() - began
                print(f"{path.name}: passed in {seconds:.0f} s, added {', '.join(added)}", flush=True)
            except (NotebookError, OSError) as error:
                print(error, file=sys.stderr, flush=True)
                failed.append(path.name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
