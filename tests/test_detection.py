"""Scenes, the detector's cut through the nets, and average precision against pycocotools."""

import contextlib
import io

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from resnet_nb.anatomy import describe
from resnet_nb.data.shapes import SHAPES
from resnet_nb.detection import figures
from resnet_nb.detection.fit import detect, fit_detector, refine
from resnet_nb.detection.network import faster_rcnn, freeze_bn, scene_detector, split
from resnet_nb.detection.precision import average_precision, average_precisions, match, mean_average_precision, precision_recall
from resnet_nb.detection.scenes import CLASSES, scenes
from resnet_nb.errors import InputError
from resnet_nb.models import build

# --- scenes ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def some():
    return scenes(120, seed=3)


def test_scenes_have_the_form_that_torchvision_wants(some):
    images, targets = some
    assert images.dtype == torch.uint8 and images.shape == (120, 3, 64, 64) and len(targets) == 120
    assert {len(t["labels"]) for t in targets} == {1, 2, 3}
    boxes = torch.cat([t["boxes"] for t in targets])
    assert boxes.dtype == torch.float32 and boxes.min() >= 0 and boxes.max() <= 64
    assert (boxes[:, 2:] - boxes[:, :2] > 7).all()
    labels = torch.cat([t["labels"] for t in targets])
    assert labels.dtype == torch.int64 and set(labels.tolist()) == set(range(1, 11))
    assert CLASSES == ("background", *SHAPES)


def test_a_seed_gives_the_same_scenes_and_another_one_others(some):
    images, targets = scenes(120, seed=3)
    assert torch.equal(images, some[0])
    assert all(torch.equal(a[key], b[key]) for a, b in zip(targets, some[1]) for key in ("boxes", "labels"))
    assert not torch.equal(scenes(120, seed=4)[0], images)


def test_boxes_are_tight_around_brighter_pixels():
    """A shape is lighter than the ground by at least 64 in each channel; where noise is weak, thresholding finds it."""
    images, targets = scenes(150, seed=0)
    alone = [i for i, t in enumerate(targets) if len(t["labels"]) == 1]
    tight = 0
    for i in alone:
        light = images[i].float().mean(0)
        ground = light.median()  # most of the image is ground
        y, x = torch.nonzero(light > ground + 45, as_tuple=True)
        found = torch.tensor([x.min(), y.min(), x.max() + 1, y.max() + 1]).float()
        tight += bool((found - targets[i]["boxes"][0]).abs().max() <= 1)
    assert len(alone) > 30 and tight > 0.6 * len(alone)


@pytest.mark.parametrize("seed", range(12))
def test_one_scene_is_drawn_however_few_objects_it_has(seed):
    images, (target,) = scenes(1, seed)
    assert images.shape == (1, 3, 64, 64) and 1 <= len(target["labels"]) == len(target["boxes"]) <= 3


@pytest.mark.parametrize("bad", [{"count": 0}, {"count": 2.0}, {"count": True}, {"count": 1, "seed": -1}])
def test_bad_scenes_are_refused(bad):
    with pytest.raises(InputError, match="must be an? .*integer"):
        scenes(**bad)


# --- the cut -----------------------------------------------------------------------------------


def on_meta(name, **options):
    with torch.device("meta"):
        return faster_rcnn(build(name), 21, **options)


def test_91_conv_layers_are_shared_in_resnet_101_and_13_in_vgg_16():
    """Appendix A: "totally 91 conv layers in ResNet-101", "analogous to the 13 conv layers in VGG-16"."""
    for name, layers in (("resnet101", 91), ("vgg16", 13)):
        backbone = on_meta(name).backbone
        shared = describe(backbone, (3, 608, 992))
        assert shared.layers == layers and {row.kind for row in shared.rows} == {"conv"}
        maps = backbone(torch.empty(1, 3, 608, 992, device="meta"))
        assert maps.shape == (1, backbone.out_channels, 38, 62)  # stride 16


@pytest.mark.parametrize("name, size, side", [("resnet18", 224, 14), ("vgg16", 224, 7), ("cifar-resnet20", 16, 8)])
def test_the_two_parts_are_the_whole_net(name, size, side):
    """Multiply-adds of both parts, for an image whose shared map has the side of a region: those of the net."""
    with torch.device("meta"):
        net = build(name)
        whole = describe(net, size)
        shared, region, wanted, features = split(net)
        with FlopCounterMode(display=False) as counter:
            out = region(torch.empty(1, shared.out_channels, side, side))
    assert wanted == side and out.shape == (1, features)
    last = features * whole.rows[-1].outputs  # the classification layer, which is replaced
    assert describe(shared, size).multiply_adds + counter.get_total_flops() // 2 + last == whole.multiply_adds


def test_the_detector_computes_what_the_net_computes():
    """Without RoI pooling between them, the shared and the region part are the net without its last layer."""
    torch.manual_seed(0)
    net = build("cifar-resnet20").eval()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
        want = net(x)
        fc = net.fc
        shared, region, *_ = split(freeze_bn(net))
        torch.testing.assert_close(fc(region(shared(x))), want)


def test_frozen_bn_leaves_no_bn_and_nothing_of_it_is_trained():
    plain, detector = build("resnet18"), faster_rcnn(build("resnet18"), 21)
    assert not [m for m in detector.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    trained = sum(p.numel() for p in [*detector.backbone.parameters(), *detector.roi_heads.box_head.parameters()])
    of_bn = sum(p.numel() for m in plain.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters())
    whole = sum(p.numel() for p in plain.parameters())
    assert of_bn == 9600 and trained == whole - of_bn - plain.fc.weight.numel() - 1000
    assert [m for m in faster_rcnn(build("resnet18"), 21, frozen=False).modules() if isinstance(m, nn.BatchNorm2d)]


def test_the_papers_settings_are_the_defaults():
    detector = on_meta("resnet50")
    assert detector.eval().rpn.post_nms_top_n() == 300
    assert detector.transform.min_size == (600,) and detector.transform.max_size == 1000
    # anchors of 128^2, 256^2 and 512^2 pixels, each in three shapes (Faster R-CNN, §3.1.1); corners are whole pixels
    (corners,) = detector.rpn.anchor_generator.cell_anchors
    width, height = (corners[:, 2:] - corners[:, :2]).double().T
    assert (width * height).sqrt().tolist() == pytest.approx(3 * [128, 256, 512], rel=0.02), "sizes of the anchors"
    assert (height / width).tolist() == pytest.approx(3 * [0.5] + 3 * [1] + 3 * [2], rel=0.02), "shapes of the anchors"
    assert detector.roi_heads.box_roi_pool.output_size == (14, 14)
    assert on_meta("vgg16").roi_heads.box_roi_pool.output_size == (7, 7)
    assert detector.roi_heads.box_predictor.bbox_pred.out_features == 4 * 21


def test_other_nets_and_too_few_classes_are_refused():
    with pytest.raises(InputError, match="got CifarPreact"):
        faster_rcnn(build("cifar-preact20"), 11)
    with pytest.raises(InputError, match="at least 2, got 1"):
        faster_rcnn(build("cifar-resnet20"), 1)


# --- training ----------------------------------------------------------------------------------


def small(frozen=True):
    torch.manual_seed(0)
    return scene_detector(build("cifar-resnet8"), torch.full((3,), 0.4), frozen)


def test_a_training_lowers_the_losses_and_moves_every_weight():
    images, targets = scenes(2, seed=0)
    detector = small(frozen=False)
    before = {name: value.clone() for name, value in detector.named_parameters()}
    log = fit_detector(detector, images, targets, 12, batch_size=2, lr=0.02)
    assert [line["iteration"] for line in log] == list(range(1, 13)) and not detector.training
    assert set(log[0]) == {"iteration", "loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}
    first, last = (log[i]["loss_objectness"] for i in (0, -1))
    assert last < 0.9 * first, f"12 iterations take the objectness loss from {first:.3f} to {last:.3f}: not a tenth lower"
    assert not [name for name, value in detector.named_parameters() if torch.equal(value, before[name])]


def test_bad_trainings_are_refused():
    images, targets = scenes(2)
    for wrong in ({"targets": targets[:1]}, {"batch_size": 3}, {"iterations": 0}, {"batch_size": 0}):
        with pytest.raises(InputError, match="one target per image"):
            fit_detector(small(), images, **({"targets": targets, "iterations": 1, "batch_size": 1} | wrong))
    with pytest.raises(FloatingPointError, match="iteration"):
        fit_detector(small(), images, targets, 20, batch_size=2, lr=1e6)


def raises(*args):
    raise RuntimeError("no memory")


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("refined", [True, False])
def test_detect_puts_the_mode_back_after_an_error(training, refined):
    detector = small().train(training)
    detector.backbone.forward = raises
    with pytest.raises(RuntimeError, match="no memory"):
        detect(detector, scenes(1)[0], refined)
    assert detector.training is training


def test_refinement_puts_its_settings_back_after_an_error():
    detector = small().eval()
    before = detector.roi_heads.nms_thresh, detector.roi_heads.detections_per_img
    detector.roi_heads.forward = raises
    with pytest.raises(RuntimeError, match="no memory"):
        refine(detector, [torch.zeros(3, 64, 64)])
    assert (detector.roi_heads.nms_thresh, detector.roi_heads.detections_per_img) == before


def test_a_detector_is_in_eval_mode_after_a_failed_training():
    detector, (images, targets) = small(), scenes(1)
    with pytest.raises(RuntimeError, match="no memory"):
        fit_detector(detector, images, targets, 1, batch_size=1, report=raises)
    assert not detector.training


def test_detect_is_the_detector_itself_batch_by_batch():
    images, _ = scenes(3, seed=1)
    detector = small().train()
    detector.roi_heads.score_thresh = 0.01
    found = detect(detector, images, batch_size=2)
    assert detector.training and len(found) == 3
    detector.eval()
    with torch.no_grad():
        for image, mine in zip(images, found):
            (want,) = detector([image.float() / 255])
            for key in ("boxes", "labels", "scores"):
                torch.testing.assert_close(mine[key], want[key])


class Fixed(nn.Module):
    """A second stage that predicts class 1 with one box offset, whatever it sees: its results are known."""

    def __init__(self, right):
        super().__init__()
        self.right = right

    def forward(self, x):
        deltas = torch.zeros(len(x), len(CLASSES), 4)
        deltas[:, 1, 0] = 10 * self.right  # box_coder divides by 10: x moves by `right` widths
        logits = torch.full((len(x), len(CLASSES)), -20.0)
        logits[:, 1] = 5.0
        return logits, deltas.flatten(1)


def test_refinement_pools_from_the_regressed_boxes_and_votes():
    """One proposal of 10 x 10 pixels; each round moves it by 2; both have one score, so voting takes the mean."""
    detector = small().eval()
    detector.roi_heads.box_predictor = Fixed(0.2)
    detector.rpn.forward = lambda images, features: ([torch.tensor([[20.0, 30, 30, 40]])] * len(images.image_sizes), {})
    (found,) = refine(detector, [torch.zeros(3, 64, 64)])
    # first round 22-32, second 24-34: IoU 8/12 > 0.3, one box stays; IoU >= 0.5, so the mean of both
    torch.testing.assert_close(found["boxes"], torch.tensor([[23.0, 30, 33, 40]]))
    assert found["labels"].tolist() == [1] and detector.roi_heads.nms_thresh == 0.5
    (alone,) = refine(detector, [torch.zeros(3, 64, 64)], vote=0.9)
    assert alone["boxes"][0, 0] in (22, 24)
    (both,) = refine(detector, [torch.zeros(3, 64, 64)], nms=0.7)
    assert len(both["boxes"]) == 2
    assert len(detect(detector, torch.zeros(3, 3, 64, 64, dtype=torch.uint8), refined=True, batch_size=2)) == 3


# --- average precision -------------------------------------------------------------------------


def random_case(seed):
    """Objects on 12 images, and predictions near some of them: ties, doubles, missed classes, empty images."""
    rng = np.random.default_rng(seed)
    targets, predictions = [], []
    for i in range(12):
        n = int(rng.integers(0, 6))
        corner = rng.integers(0, 60, (n, 2))
        boxes = np.concatenate([corner, corner + rng.integers(5, 40, (n, 2))], 1).astype(np.float32)
        labels = rng.integers(1, 5, n)
        near = np.repeat(np.arange(n), rng.integers(0, 4, n))
        found = boxes[near] + rng.integers(-4, 5, (len(near), 4)) * (rng.random((len(near), 1)) < 0.8)
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
        guess = np.where(rng.random(len(near)) < 0.8, labels[near], rng.integers(1, 6, len(near)))
        if i == 5:
            found, guess = found[:0], guess[:0]
        scores = rng.choice([0.1, 0.3, 0.5, 0.7, 0.9], len(found))  # many ties
        targets.append({"boxes": torch.tensor(boxes).reshape(-1, 4), "labels": torch.tensor(labels, dtype=torch.int64)})
        predictions.append(
            {
                "boxes": torch.tensor(found, dtype=torch.float32).reshape(-1, 4),
                "scores": torch.tensor(scores),
                "labels": torch.tensor(guess, dtype=torch.int64),
            }
        )
    return predictions, targets


def coco(predictions, targets):
    """AP by pycocotools: (thresholds, classes), -1 where a class has no objects."""

    def rows(objects):
        for i, image in enumerate(objects, 1):
            for k, (box, label) in enumerate(zip(image["boxes"].double().tolist(), image["labels"].tolist())):
                x1, y1, x2, y2 = box
                score = {"score": float(image["scores"][k])} if "scores" in image else {}
                yield {
                    "image_id": i,
                    "category_id": label,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                } | score

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": i + 1} for i in range(len(targets))],
            "categories": [{"id": k} for k in range(1, 7)],
            "annotations": [row | {"id": i} for i, row in enumerate(rows(targets), 1)],
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes([*rows(predictions)]), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"][:, :, :, 0, -1].mean(1)


@pytest.mark.parametrize("seed", range(8))
def test_average_precision_is_pycocotools(seed):
    predictions, targets = random_case(seed)
    want = coco(predictions, targets)
    mine = average_precisions(predictions, targets)
    assert set(mine) == {label for label in range(1, 7) if want[0, label - 1] > -1}
    for label, values in mine.items():
        np.testing.assert_allclose(values, want[:, label - 1], atol=1e-9)
    assert 0.05 < mean_average_precision(predictions, targets) < 0.95
    assert mean_average_precision(predictions, targets) == pytest.approx(want[want > -1].mean())
    assert mean_average_precision(predictions, targets, (0.5,)) == pytest.approx(want[0][want[0] > -1].mean())


def test_only_a_hundred_predictions_of_a_class_count_in_an_image():
    box = torch.tensor([[10.0, 10, 20, 20]])
    target = [{"boxes": box, "labels": torch.tensor([1])}]
    boxes = (box + 30).repeat(101, 1)
    boxes[100] = box
    found = [{"boxes": boxes, "labels": torch.ones(101, dtype=torch.int64), "scores": torch.linspace(1, 0.5, 101)}]
    assert coco(found, target)[0, 0] == mean_average_precision(found, target) == 0
    assert match(found, target, 1)[0].shape == (1, 100)


def test_average_precision_in_closed_form():
    hits = np.array([True, False, True, False])  # two of four objects, recall 1/4 at precision 1, 1/2 at 2/3
    precision, recall = precision_recall(hits, 4)
    assert precision.tolist() == [1, 1 / 2, 2 / 3, 1 / 2] and recall.tolist() == [1 / 4, 1 / 4, 1 / 2, 1 / 2]
    assert average_precision(hits, 4, points=None) == pytest.approx((1 + 2 / 3) / 4)
    assert average_precision(hits, 4, points=11) == pytest.approx((3 + 3 * 2 / 3) / 11)  # 0, .1, .2 and .3, .4, .5
    assert average_precision(hits, 4) == pytest.approx((26 + 25 * 2 / 3) / 101)
    assert average_precision(np.zeros(0, bool), 3) == average_precision(np.zeros(0, bool), 3, points=None) == 0
    assert average_precision(np.ones(3, bool), 3) == average_precision(np.ones(3, bool), 3, points=None) == 1


def test_a_second_prediction_of_one_object_is_a_miss():
    box = torch.tensor([[0.0, 0, 10, 10]])
    found = {"boxes": torch.cat([box, box]), "labels": torch.tensor([2, 2]), "scores": torch.tensor([0.6, 0.8])}
    hits, scores, count = match([found], [{"boxes": box, "labels": torch.tensor([2])}], 2)
    assert hits.tolist() == [[True, False]] and scores == pytest.approx([0.8, 0.6]) and count == 1


def test_bad_evaluations_are_refused():
    _, targets = scenes(2)
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "scores": torch.zeros(0)}
    assert mean_average_precision([nothing] * 2, targets) == 0
    with pytest.raises(InputError, match="1 for 2 images"):
        mean_average_precision([nothing], targets)
    with pytest.raises(InputError, match="at least one object"):
        mean_average_precision([nothing], [nothing])
    with pytest.raises(InputError, match="at least one object, got 0"):
        average_precision(np.ones(1, bool), 0)


# --- figures -----------------------------------------------------------------------------------


def test_figures_name_their_numbers_and_draw_every_box(monkeypatch):
    images, targets = scenes(5)
    drawn = []
    monkeypatch.setattr(figures, "_rectangle", lambda axis, box, dashes, text: drawn.append((dashes, text)))
    found = [
        target | {"scores": torch.full((len(target["labels"]),), score)}
        for target, score in zip(targets, (0.9, 0.5, 0.4, 0.4, 0.4))
    ]
    figures.scenes(images, targets, CLASSES, "Scenes.", found)
    assert len([dashes for dashes, _ in drawn if dashes == "-"]) == sum(len(target["labels"]) for target in targets)
    want = [f"{CLASSES[label]} {score}" for target, score in zip(targets, (90, 50)) for label in target["labels"]]
    assert [text for dashes, text in drawn if dashes == "--"] == want
    figure = figures.gains({"a": {"x": 1.04, "y": -2.0}}, "points", "Gains.")
    assert (figure.caption, figure.alt) == ("Gains.", "Bars, points, x, y: a 1.0, -2.0.")
