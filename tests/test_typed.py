"""What people type: understood as it is meant, or refused in one line that says what is allowed, with nothing written."""

import json
import os

import PIL.Image
import pytest

from resnet_nb import data, models, runs
from resnet_nb.cli import main, parser
from resnet_nb.errors import InputError
from resnet_nb.recipes import RECIPES, recipe_for

SHORT = ["--recipe", "live", "--iterations", "2", "--batch-size", "8", "--set", "width=4"]


def pictures(root, train=10, test=2, side=16, tests="test"):
    """A folder of the classes cat and dog: images to train on and to test, of each class."""
    for part, count in (("train", train), (tests, test)):
        for name, value in (("cat", 40), ("dog", 200)):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                PIL.Image.new("RGB", (side, side), (value + i,) * 3).save(root / part / name / f"{i}.png")
    return root


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with the pictures `d` in it and a home beside it."""
    folder = tmp_path / "here"
    pictures(folder / "d")
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.chdir(folder)
    data.load("d")  # decoded once, so that no test sees its bar
    return folder


def train(*args, name="cifar-resnet8", source="d", out="r"):
    return main(["train", name, f"--data={source}", f"--out={out}", *SHORT, *args])


def told(capsys, code, *lines):
    """The one line of a command that is refused; nothing is written."""
    before = sorted(os.listdir())
    capsys.readouterr()
    assert code(*lines) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and len(err.splitlines()) == 1 and sorted(os.listdir()) == before
    return err


def recipe_of(out):
    return json.loads((out / "run.json").read_text(encoding="utf-8"))["recipe"]


# ---- a batch size


def test_a_batch_size_lets_few_images_be_trained_and_nothing_else_changes(here, capsys):
    args = ["train", "cifar-resnet8", "--data", "d", "--out", "r", "--iterations", "4", "--set", "width=4"]
    line = told(capsys, main, args)
    assert "1 to 20, the number of training images of d, got 128; choose another batch_size (--batch-size)" in line
    assert main([*args, "--batch-size", "20"]) == 0  # as told
    whole = {**runs.folder.as_json(RECIPES["cifar"].shortened(4)), "batch_size": 20}
    assert recipe_of(here / "r") == whole  # iterations, drops and learning rate are the recipe's
    line = told(capsys, main, [*args, "--batch-size", "10"])
    assert 'another run: its recipe is {"batch_size": 20}, asked for {"batch_size": 10}' in line


def test_photographs_of_any_size_can_be_few(here, capsys):
    pictures(here / "photos", 4, 1, side=40, tests="val")
    args = ["train", "resnet18", "--data", "photos", "--out", "r", "--recipe", "imagenet", "--iterations", "1"]
    assert "1 to 8, the number of training images of photos, got 256" in told(capsys, main, args)
    assert main([*args, "--set", "width=4", "--batch-size", "4"]) == 0 and recipe_of(here / "r")["batch_size"] == 4


def test_a_sweep_takes_the_batch_size_for_all_its_runs(here, capsys, monkeypatch):
    seen = []
    monkeypatch.setattr("resnet_nb.runs.sweep.run", lambda *args, **settings: seen.append(args[3]))
    assert main(["sweep", "shapes", "--data", "d", "--out", "r", "--iterations", "3", "--batch-size", "8"]) == 0
    assert seen[0] == recipe_for("shapes", "cifar-plain20", 3, 8) and seen[0].batch_size == 8 and seen[0].lr == 0.05
    told(capsys, main, ["sweep", "shapes", "--data", "no/data/were/read", "--out", "r", "--batch-size", "0"])


@pytest.mark.parametrize("size, said", [("0", "positive"), ("-8", "positive"), ("21", "1 to 20"), ("64k", "64k")])
def test_other_batch_sizes_are_refused(here, capsys, size, said):
    assert said in told(capsys, train, f"--batch-size={size}")


def test_a_validation_split_leaves_fewer_images(here, capsys):
    assert "1 to 18, the number of training images of d-validation" in told(capsys, train, "--validation", "--batch-size=20")


def test_one_image_that_batch_normalization_cannot_normalize_is_told_first(here, capsys):
    pictures(here / "e", 2, 1, side=32)
    data.load("e")
    args = ["train", "resnet18", "--data", "e", "--out", "r", *SHORT, "--batch-size"]
    assert "more than 1 value per channel" in told(capsys, main, [*args, "1"])
    assert main([*args, "2"]) == 0


# ---- paths


@pytest.mark.parametrize("source, out", [("~/pics", "~/runs/a"), ("d/", "r/"), ("./d/../d", "a 'quoted' öé name"), ("d", "-r")])
def test_paths_mean_what_they_say(here, capsys, source, out):
    pictures(here.parent / "home" / "pics")
    before = set(os.listdir())
    assert train(source=source, out=out) == 0
    where = here.parent / "home" / "runs" / "a" if out.startswith("~") else here / out
    assert (where / "weights.safetensors").is_file() and set(os.listdir()) - before == ({out.strip("/")} - {"~/runs/a"})
    assert main(["evaluate", f"{out}"] if out != "-r" else ["evaluate", "--", "-r"]) == 0
    assert "test error" in capsys.readouterr().out


def test_the_home_folder_is_meant_in_python_too(here, capsys):
    made = here.parent / "home" / "a"
    images = data.load("d")
    runs.run("cifar-resnet8", images, "~/a", recipe_for("live", "cifar-resnet8", 1, 8), overrides={"width": 4})
    assert (made / "weights.safetensors").is_file() and not (here / "~").exists()
    assert runs.load_run("~/a")[1] == runs.load_run(str(made))[1]
    with pytest.raises(InputError, match="only networks of the papers"):  # it was found
        runs.record("~/a")
    (made / "net.th").write_bytes(b"no net")
    with pytest.raises(InputError, match="net.th is damaged"):
        models.pretrained("~/a/net.th")


@pytest.mark.parametrize("option", ["--data", "--out"])
@pytest.mark.parametrize("text, said", [("", "empty"), (" ", "empty"), ("~nobody-of-that-name/x", "./~nobody")])
def test_a_path_that_says_nothing_is_refused(here, capsys, option, text, said):
    assert said in told(capsys, train, f"{option}={text}")
    if option == "--out":
        for command in ("evaluate", "record"):
            assert said in told(capsys, main, [command, text])


@pytest.mark.parametrize("option, text", [("out", "d/train/cat/0.png"), ("out", "d"), ("out", "."), ("source", r"d\train")])
def test_files_for_folders_and_folders_of_others_are_refused(here, capsys, option, text):
    told(capsys, lambda: train(**{option: text}))


def test_a_file_of_a_run_is_told_from_weights(here, capsys):
    assert train() == 0
    for name in os.listdir("r"):
        assert "evaluate its folder, r" in told(capsys, main, ["evaluate", f"r/{name}"])
    assert main(["evaluate", "r"]) == 0  # as told


# ---- numbers, words, names


@pytest.mark.parametrize("option", ["--iterations", "--seed", "--batch-size"])
@pytest.mark.parametrize("text", ["1e3", "64k", "0x10", "1,000", "2.0", "", "two", "9" * 5_000])
def test_what_is_no_integer_is_told_what_one_is(here, capsys, option, text):
    line = told(capsys, train, f"{option}={text}")
    assert f"argument {option}: an integer in digits is wanted, such as 8000, got '{text[:20]}" in line and len(line) < 200


@pytest.mark.parametrize("text, value", [("+5", 5), ("1_000", 1000), (" 7 ", 7), ("٣", 3)])
def test_integers_are_read_as_python_reads_them(text, value):
    args = parser().parse_args(["train", "cifar-resnet8", "--data=d", "--out=r", f"--iterations={text}", f"--seed={text}"])
    assert args.iterations == args.seed == value


@pytest.mark.parametrize("text", ["90 s", "1h30m", "25min", "-5s", "inf", "1e3s", ""])
def test_other_times_are_told_what_a_time_is(here, capsys, text):
    assert "a number with s, m or h (90s, 25m, 2h)" in told(capsys, train, f"--time-limit={text}")


@pytest.mark.parametrize(
    "text, pair",
    [
        *((f"bottleneck={word}", ("bottleneck", True)) for word in ("true", "True", "TRUE")),
        *((f"shortcut={word}", ("shortcut", None)) for word in ("null", "None", "none")),
        *((f"shortcut={word}", ("shortcut", "B")) for word in ("B", '"B"', "'B'", " B ")),
        (" width = 4 ", ("width", 4)),
        ("width=0x10", ("width", 16)),
        ("on_shortcut=.5", ("on_shortcut", 0.5)),
        ("gate_bias=-6", ("gate_bias", -6)),
        ("stride_on=3x3", ("stride_on", "3x3")),
        ("stages=[1, 2]", ("stages", [1, 2])),
    ],
)
def test_overrides_are_read_as_python_and_as_json(text, pair):
    [found] = parser().parse_args(["describe", "resnet50", "--set", text]).set
    assert found == pair and type(found[1]) is type(pair[1])


@pytest.mark.parametrize("net", ["cifar-preact164", "cifar-resnet20", "cifar-euler32", "tiny-preact"])
@pytest.mark.parametrize(
    "text", ["yes", "1.5", "4.0", "1e1", "NaN", "Infinity", "[1]", '{"a": 1}', "b'x'", "1j", "-1", "b ", "٤"]
)
def test_other_values_are_told_what_is_allowed(here, capsys, net, text):
    """Of every option of the network."""
    options = {
        "cifar-preact164": ["bottleneck", "shortcut", "width", "num_classes", "placement"],
        "cifar-resnet20": ["shortcut", "width", "num_classes"],
        "cifar-euler32": ["nested", "learnable", "width"],
        "tiny-preact": ["stages", "filters", "num_classes"],
    }
    for option in options[net]:
        if (option, text.strip()) == ("placement", "b"):
            continue
        line = told(capsys, main, ["describe", net, "--set", f"{option}={text}"])
        assert option in line and "must be" in line and "got" in line


@pytest.mark.parametrize(
    "typed, meant",
    [
        ("ResNet-50", "resnet50"),
        ("resnet_50", "resnet50"),
        ("resnt50", "resnet50"),
        ("VGG-16", "vgg16"),
        ("Cifar-ResNet-56", "cifar-resnet56"),
        ("cifar_resnet56", "cifar-resnet56"),
        ("cifar-resnet 056", "cifar-resnet56"),
        ("Cifar-RK432", "cifar-rk432"),
        ("Tiny_Preact", "tiny-preact"),
    ],
)
def test_a_near_name_is_suggested_and_works(capsys, typed, meant):
    assert f"unknown model {typed!r} (did you mean {meant}?); allowed: " in told(capsys, main, ["describe", typed])
    assert main(["describe", meant]) == 0


@pytest.mark.parametrize("typed", ["alexnet", "", "vgg", "cifar-resnet", "resnet٥٠", "50"])
def test_nothing_is_suggested_where_nothing_is_near(capsys, typed):
    line = told(capsys, main, ["describe", typed])
    assert "did you mean" not in line and "allowed: resnet18|34|50" in line


@pytest.mark.parametrize(
    "args, said",
    [
        (["help"], "choose from"),
        (["train"], "NAME, --data, --out; see python -m resnet_nb train --help"),
        (["train", "help"], "--data, --out; see python -m resnet_nb train --help"),
        (["describe", "resnet50", "--size", "1" + "0" * 24], "up to 1,000,000"),
        (["describe", "vgg16", "--size", "16"], "16x16"),
        (["evaluate", "d", "--device", ""], "leave --device out"),
        (["evaluate", "nothing"], "there is no such folder"),
        (["evaluate", "ResNet50", "--data", "d"], "(did you mean resnet50?)"),
        (["evaluate", "resnet50", "--data", "nowhere", "--download"], "no data at 'nowhere'"),  # before weights are fetched
    ],
    ids=" ".join,
)
def test_other_slips_are_told(here, capsys, args, said):
    if args == ["evaluate", "d", "--device", ""]:
        assert train(out="ran") == 0
        args = ["evaluate", "ran", "--device", ""]
    assert said in told(capsys, main, args)


@pytest.mark.parametrize("bad", ["--precision=tf32", "--set=num_classes=2", "--seed=-1", "--iterations=0", "--device= "])
def test_slips_are_told_before_the_data_are_read(here, capsys, bad):
    assert "no/data" not in told(capsys, lambda: train("--device=cpu", bad, source="no/data/were/read"))


# ---- where a run finds its data


def test_advice_about_the_data_of_a_run_works(here, capsys, monkeypatch):
    """Trained here, evaluated from elsewhere, or as a run on CIFAR-10."""
    assert train() == 0
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    line = told(capsys, main, ["evaluate", "../r"])
    assert f"the run's data are not at 'd', seen from {here / 'elsewhere'}; --data says where" in line
    assert main(["evaluate", "../r", "--data", "../d"]) == 0
    info = here / "r" / "run.json"
    text = info.read_text(encoding="utf-8")
    for source in ("/no/where", r"C:\\pics\\d"):
        info.write_text(text.replace('"source": "d"', f'"source": "{source}"'), encoding="utf-8")
        assert "--data says where" in told(capsys, main, ["evaluate", "../r"])
    info.write_text(text.replace('"source": "d"', '"source": "cifar10"'), encoding="utf-8")
    assert "--data says where, or --download fetches them" in told(capsys, main, ["evaluate", "../r"])
    assert main(["evaluate", "../r", "--data", "../d"]) == 0
    asked = []

    def read(root, download):
        asked.append((str(root), download))
        return data.folder.read(here / "d")

    monkeypatch.setattr("resnet_nb.data.cifar10.read", read)
    capsys.readouterr()
    for more in ([], ["--data", "cifar10"]):
        assert main(["evaluate", "../r", "--download", *more]) == 0
    assert asked == [("data", True)] * 2 and capsys.readouterr().out.count("test error") == 2


@pytest.mark.parametrize("kind", ["folder", "photographs", "cifar10"])
def test_data_that_moved_continue_are_evaluated_and_recorded(here, capsys, monkeypatch, kind):
    """Renamed, behind a symbolic link of the old name, and under another parent."""
    name, more, source = "cifar-resnet8", ["--iterations", "3", "--batch-size", "4"], here / "d"
    if kind == "photographs":
        source = pictures(here / "photos", 4, 1, side=40, tests="val")
        name, more = "resnet18", [*more, "--recipe", "imagenet", "--set", "width=4"]
    if kind == "cifar10":
        monkeypatch.setattr("resnet_nb.data.cifar10.read", lambda root, *_: data.folder.read(root))
        (source / "cifar-10-batches-py").mkdir()
    args = ["train", name, *more, "--out", "r", "--data"]
    assert main([*args, str(source), "--time-limit", "0.01s"]) == 0 and (here / "r" / "checkpoint.pt").exists()
    renamed, link, moved = here / "renamed", here / source.name, here / "deep" / "er"
    source.rename(renamed)
    assert main([*args, "renamed", "--time-limit", "0.01s"]) == 0
    link.symlink_to(renamed)
    assert main([*args, str(link)]) == 0 and (here / "r" / "weights.safetensors").exists()
    link.unlink()
    moved.parent.mkdir()
    renamed.rename(moved)
    assert main([*args, str(moved)]) == 0  # finished
    capsys.readouterr()
    assert main(["evaluate", "r", "--data", str(moved)]) == 0
    out, err = capsys.readouterr()
    assert "error" in out and "other data" not in err
    monkeypatch.setattr(runs.recorded, "RECORDED", here / "recorded")
    assert main(["record", "r", "--log-only"]) == (2 if kind == "photographs" else 0)  # narrow nets are not of the paper
