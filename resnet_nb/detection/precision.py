"""Average precision by COCO's and PASCAL VOC's rules (notebook 10)."""

from collections.abc import Sequence

import numpy as np
from torchvision.ops import box_iou

from resnet_nb.detection.scenes import Objects
from resnet_nb.errors import InputError

COCO = tuple(i / 100 for i in range(50, 100, 5))  # IoU thresholds of mAP@[.5, .95]
MOST = 100  # predictions of one class that count in one image (COCO)


def match(
    predictions: Sequence[Objects], targets: Sequence[Objects], label: int, thresholds: Sequence[float] = (0.5,)
) -> tuple[np.ndarray, np.ndarray, int]:
    """Which predictions of one class hit an object, by COCO's rule, over all images with the best score first.

    Each prediction, in the order of scores, takes the object of its class and image that it overlaps most among those not
    yet taken, if their IoU reaches the threshold; else it misses. Returns hits (thresholds, n) bool, scores (n,) and the
    number of objects.
    """
    hits, scores, count = [np.zeros((len(thresholds), 0), bool)], [np.zeros(0)], 0
    for predicted, true in zip(predictions, targets, strict=True):
        objects = true["boxes"][true["labels"] == label].double()
        count += len(objects)
        ours = predicted["labels"] == label
        if ours.any():
            best = predicted["scores"][ours].argsort(descending=True, stable=True)[:MOST]
            overlaps = box_iou(predicted["boxes"][ours][best].double(), objects).numpy()
            hits.append(np.stack([_hits(overlaps, threshold) for threshold in thresholds]))
            scores.append(predicted["scores"][ours][best].double().numpy())
    all_scores = np.concatenate(scores)
    order = np.argsort(-all_scores, kind="stable")
    return np.concatenate(hits, 1)[:, order], all_scores[order], count


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


def highest_beyond(precision: np.ndarray) -> np.ndarray:
    """The highest precision at each recall or beyond: (n,) to (n,)."""
    return np.maximum.accumulate(precision[::-1])[::-1]


def average_precision(hits: np.ndarray, count: int, points: int | None = 101) -> float:
    """Area under the precision-recall curve: hits (n,) bool with the best score first, `count` objects.

    Precision at a recall is the highest at that recall or beyond. points: mean over so many recalls from 0 to 1 (COCO 101,
    PASCAL VOC 2007 11); None is the exact area (VOC from 2010 on). Raises InputError without objects.
    """
    if count < 1:
        raise InputError(f"average precision needs at least one object, got {count}")
    precision, recall = precision_recall(hits, count)
    highest = highest_beyond(precision)
    if points is None:
        return float(np.sum(highest * np.diff(recall, prepend=0.0)))
    at = np.searchsorted(recall, np.linspace(0.0, 1.0, points))
    return float(np.append(highest, 0.0)[np.minimum(at, len(hits))].mean())


def average_precisions(predictions: Sequence[Objects], targets: Sequence[Objects], thresholds=COCO) -> dict[int, np.ndarray]:
    """AP of each class that has objects: label -> (thresholds,), in [0, 1].

    Raises InputError unless there is one prediction dict per target and at least one object.
    """
    if len(predictions) != len(targets):
        raise InputError(f"need predictions for each image: {len(predictions)} for {len(targets)} images")
    labels = sorted({int(label) for true in targets for label in true["labels"]})
    if not labels:
        raise InputError("average precision needs at least one object, the targets have none")
    matched = {label: match(predictions, targets, label, thresholds) for label in labels}
    return {k: np.array([average_precision(row, count) for row in hits]) for k, (hits, _, count) in matched.items()}


def mean_average_precision(predictions: Sequence[Objects], targets: Sequence[Objects], thresholds=COCO) -> float:
    """mAP in [0, 1]: mean over the classes that have objects and over the thresholds; COCO's mAP@[.5, .95] by default.

    thresholds=(0.5,) gives mAP@.5. Equal to pycocotools; see `average_precisions` for errors.
    """
    return float(np.mean(list(average_precisions(predictions, targets, thresholds).values())))
