"""Training a detector, and finding with it, with box refinement or without (notebook 10; arXiv 1512.03385, Appendix B)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN
from torchvision.ops import batched_nms, box_iou

from resnet_nb.detection.scenes import Objects
from resnet_nb.errors import InputError
from resnet_nb.train.checks import as_usual
from resnet_nb.train.evaluation import evaluating


@as_usual()
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

    images: uint8 (N, 3, H, W), read in their order, from the start again after the last; targets: boxes float32 (n, 4) in
    pixels and labels int64 (n,) from 1 on, one dict per image. The rate grows over the first tenth of the iterations and is
    a tenth over the last fifth. RPN and detection network are trained together, on the sum of their four losses. Proposals
    are sampled from torch's global generator. A line: iteration and the four losses; report gets each. The detector is in
    eval mode afterwards, also after an error. Raises InputError on sizes that do not fit, FloatingPointError when a loss is
    not finite.
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
    try:
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
    finally:
        detector.eval()
    return log


def detect(detector: FasterRCNN, images: Tensor, refined: bool = False, batch_size: int = 50) -> list[Objects]:
    """What the detector finds on uint8 images (N, 3, H, W): boxes, labels and scores of each, the best score first.

    refined: with box refinement and box voting, see `refine`. BN is in eval mode; the detector's mode is put back.
    """
    predict = (lambda part: refine(detector, part)) if refined else detector
    with evaluating(detector):
        return [objects for part in images.split(batch_size) for objects in predict([*(part.float() / 255)])]


@torch.no_grad()
def refine(detector: FasterRCNN, images: list[Tensor], nms: float = 0.3, vote: float = 0.5) -> list[Objects]:
    """Predictions with box refinement (Appendix B): pool again from the regressed boxes, take both rounds together.

    images: float (3, H, W) in [0, 1]; the detector must be in eval mode. On the union, per class, non-maximum suppression at
    IoU `nms`, then box voting: a kept box becomes the mean, weighted by score, of all boxes that overlap it by `vote`. The
    paper pools from all 300 boxes; here from those whose score passes the detector's threshold. The paper does not print
    `vote`; 0.5 is ours.
    """
    batch, _ = detector.transform(images)
    features = {"0": detector.backbone(batch.tensors)}
    heads, sizes = detector.roi_heads, batch.image_sizes
    proposals, _ = detector.rpn(batch, features)
    settings = heads.nms_thresh, heads.detections_per_img
    heads.nms_thresh, heads.detections_per_img = 1.0, 10**6  # nothing is suppressed before both rounds are there
    try:
        first, _ = heads(features, proposals, sizes)
        second, _ = heads(features, [objects["boxes"] for objects in first], sizes)
    finally:
        heads.nms_thresh, heads.detections_per_img = settings
    refined = []
    for rounds in zip(first, second):
        union = {key: torch.cat([objects[key] for objects in rounds]) for key in rounds[0]}
        kept = batched_nms(union["boxes"], union["scores"], union["labels"], nms)[: heads.detections_per_img]
        best = {key: value[kept] for key, value in union.items()}
        near = box_iou(best["boxes"], union["boxes"]) >= vote
        weight = union["scores"] * (near & (best["labels"][:, None] == union["labels"]))
        refined.append(best | {"boxes": weight @ union["boxes"] / weight.sum(1, keepdim=True)})
    return detector.transform.postprocess(refined, sizes, [tuple(image.shape[-2:]) for image in images])
