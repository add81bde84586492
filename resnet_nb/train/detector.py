"""Training and judging a detector: steps of SGD, box refinement (arXiv 1512.03385, Appendix B), average precision."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import batched_nms, box_iou

from resnet_nb.errors import InputError

Objects = dict[str, Tensor]  # of one image: boxes (n, 4), labels (n,), and if they are predictions scores (n,)
COCO = tuple(i / 100 for i in range(50, 100, 5))  # IoU thresholds of mAP@[.5, .95]
MOST = 100  # predictions of one class that count in one image (COCO)


def fit_detector(
    detector: FasterRCNN,
    images: Tensor,
    targets: Sequence[Objects],
    iterations: int,
    batch_size: int = 4,
    lr: float = 0.02,
    report: Callable[[dict], None] | None = None,
) -> list[dict]:
    """Train all weights in place with SGD (momentum 0.9, weight decay 1e-4); returns one line per iteration.

    images: uint8 (N, 3, H, W), read in their order, from the start again after the last; targets: boxes float32
    (n, 4) in pixels and labels int64 (n,) from 1 on, one dict per image. The rate grows over the first tenth of the
    iterations and is a tenth over the last fifth. RPN and detection network are trained together, on the sum of
    their four losses. Proposals are sampled from torch's global generator. A line: iteration and the four losses;
    report gets each. The detector is in eval mode afterwards. Raises InputError on sizes that do not fit,
    FloatingPointError when a loss is not finite.
    """
    if len(images) != len(targets) or not 1 <= batch_size <= len(images) or iterations < 1:
        raise InputError(
            f"need one target per image, batches of 1 to {len(images)} images and at least one iteration; "
            f"got {len(targets)} targets, batch_size {batch_size}, {iterations} iterations"
        )
    weights = [weight for weight in detector.parameters() if weight.requires_grad]
    optimizer = torch.optim.SGD(weights, lr=lr, momentum=0.9, weight_decay=1e-4)
    log = []
    detector.train()
    for i in range(iterations):
        optimizer.param_groups[0]["lr"] = lr * min(1, 10 * (i + 1) / iterations) * (0.1 if i >= 0.8 * iterations else 1)
        batch = [n % len(images) for n in range(i * batch_size, (i + 1) * batch_size)]
        losses = detector([images[n].float() / 255 for n in batch], [targets[n] for n in batch])
        loss = sum(losses.values())
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss of iteration {i + 1} is not finite; a smaller lr may help")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        log.append({"iteration": i + 1} | {name: value.item() for name, value in losses.items()})
        if report is not None:
            report(log[-1])
    detector.eval()
    return log


@torch.no_grad()
def detect(detector: FasterRCNN, images: Tensor, refined: bool = False, batch_size: int = 50) -> list[Objects]:
    """What the detector finds on uint8 images (N, 3, H, W): boxes, labels and scores of each, the best score first.

    refined: with box refinement and box voting, see `refine`. BN is in eval mode, the detector's mode put back.
    """
    was_training = detector.training
    detector.eval()
    find = (lambda part: refine(detector, part)) if refined else detector
    found = [objects for part in images.split(batch_size) for objects in find([*(part.float() / 255)])]
    detector.train(was_training)
    return found


@torch.no_grad()
def refine(detector: FasterRCNN, images: list[Tensor], nms: float = 0.3, vote: float = 0.5) -> list[Objects]:
    """Predictions with box refinement (Appendix B): pool again from the regressed boxes, take both rounds together.

    images: float (3, H, W) in [0, 1]; the detector must be in eval mode. On the union, per class, non-maximum
    suppression at IoU `nms`, then box voting: a kept box becomes the mean, weighted by score, of all boxes that overlap it
    by `vote`. The paper pools from all 300 boxes; here from those whose score passes the detector's threshold. The
    paper does not print `vote`; 0.5 is ours.
    """
    batch, _ = detector.transform(images)
    features = {"0": detector.backbone(batch.tensors)}
    heads, sizes = detector.roi_heads, batch.image_sizes
    proposals, _ = detector.rpn(batch, features)
    with _nothing_suppressed(heads):
        first, _ = heads(features, proposals, sizes)
        second, _ = heads(features, [found["boxes"] for found in first], sizes)
    refined = []
    for rounds in zip(first, second):
        every = {key: torch.cat([found[key] for found in rounds]) for key in rounds[0]}
        kept = batched_nms(every["boxes"], every["scores"], every["labels"], nms)[: heads.detections_per_img]
        best = {key: value[kept] for key, value in every.items()}
        near = box_iou(best["boxes"], every["boxes"]) >= vote
        weight = every["scores"] * (near & (best["labels"][:, None] == every["labels"]))
        refined.append(best | {"boxes": weight @ every["boxes"] / weight.sum(1, keepdim=True)})
    return detector.transform.postprocess(refined, sizes, [tuple(image.shape[-2:]) for image in images])


@contextmanager
def _nothing_suppressed(heads: RoIHeads) -> Iterator[None]:
    before = heads.nms_thresh, heads.detections_per_img
    heads.nms_thresh, heads.detections_per_img = 1.0, 10**6
    try:
        yield
    finally:
        heads.nms_thresh, heads.detections_per_img = before


def match(
    predictions: Sequence[Objects], targets: Sequence[Objects], label: int, thresholds: Sequence[float] = (0.5,)
) -> tuple[np.ndarray, np.ndarray, int]:
    """Which predictions of one class hit an object, by COCO's rule, over all images with the best score first.

    Each prediction, in the order of scores, takes the object of its class and image that it overlaps most among those
    not yet taken, if their IoU reaches the threshold; else it misses. Returns hits (thresholds, n) bool,
    scores (n,) and the number of objects.
    """
    hits, scores, count = [np.zeros((len(thresholds), 0), bool)], [np.zeros(0)], 0
    for found, true in zip(predictions, targets, strict=True):
        objects = true["boxes"][true["labels"] == label].double()
        mine = found["labels"] == label
        count += len(objects)
        if not mine.any():
            continue
        order = found["scores"][mine].argsort(descending=True, stable=True)[:MOST]
        overlaps = box_iou(found["boxes"][mine][order].double(), objects).numpy()
        hits.append(np.stack([_hits(overlaps, threshold) for threshold in thresholds]))
        scores.append(found["scores"][mine][order].double().numpy())
    every = np.concatenate(scores)
    order = np.argsort(-every, kind="stable")
    return np.concatenate(hits, 1)[:, order], every[order], count


def _hits(overlaps: np.ndarray, threshold: float) -> np.ndarray:
    """(predictions, objects) IoUs of one image, best score first, to (predictions,) bool."""
    free, hits = overlaps.copy(), np.zeros(len(overlaps), bool)
    for i, row in enumerate(free):
        if row.size and row.max() >= threshold:
            hits[i] = True
            free[:, np.flatnonzero(row == row.max())[-1]] = -1.0  # of equal ones the last, as in pycocotools
    return hits


def precision_recall(hits: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall of the first 1, 2, ... predictions: (n,) bool, best score first, to two arrays (n,)."""
    right = np.cumsum(hits)
    return right / np.arange(1, len(hits) + 1), right / count


def average_precision(hits: np.ndarray, count: int, points: int | None = 101) -> float:
    """Area under the precision-recall curve: hits (n,) bool with the best score first, `count` objects.

    Precision at a recall is the highest at that recall or beyond. points: mean over so many recalls from 0 to 1
    (COCO 101, PASCAL VOC 2007 11); None is the exact area (VOC from 2010 on). Raises InputError without objects.
    """
    if count < 1:
        raise InputError(f"average precision needs at least one object, got {count}")
    precision, recall = precision_recall(hits, count)
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    if points is None:
        return float(np.sum(highest * np.diff(recall, prepend=0.0)))
    at = np.searchsorted(recall, np.linspace(0.0, 1.0, points))
    return float(np.append(highest, 0.0)[np.minimum(at, len(hits))].mean())


def average_precisions(
    predictions: Sequence[Objects], targets: Sequence[Objects], thresholds: Sequence[float] = COCO, points: int | None = 101
) -> dict[int, np.ndarray]:
    """AP of each class that has objects: label -> (thresholds,), in [0, 1].

    Raises InputError unless there is one prediction dict per target and at least one object.
    """
    if len(predictions) != len(targets):
        raise InputError(f"need predictions for each image: {len(predictions)} for {len(targets)} images")
    labels = sorted({int(label) for true in targets for label in true["labels"]})
    if not labels:
        raise InputError("average precision needs at least one object, the targets have none")
    found = {}
    for label in labels:
        hits, _, count = match(predictions, targets, label, thresholds)
        found[label] = np.array([average_precision(row, count, points) for row in hits])
    return found


def mean_average_precision(
    predictions: Sequence[Objects], targets: Sequence[Objects], thresholds: Sequence[float] = COCO
) -> float:
    """mAP in [0, 1]: mean over the classes that have objects and over the thresholds; COCO's mAP@[.5, .95] by default.

    thresholds=(0.5,) gives mAP@.5. Equal to pycocotools; see `average_precisions` for errors.
    """
    return float(np.mean(list(average_precisions(predictions, targets, thresholds).values())))
