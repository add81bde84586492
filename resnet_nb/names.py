"""What is chosen by name on the command line; nothing is imported here, so that its help is there at once."""

NETWORKS = (
    "resnet18|34|50|101|152|200, plain18|34, preact50|101|152|200, vgg16|19, cifar-resnet<6n+2>, "
    "cifar-plain<6n+2>, cifar-preact<6n+2 or 9n+2>, cifar-euler|midpoint|rk4|rk8<6n+2>, tiny-preact"
)
PRECISIONS = ("float32", "tf32", "bf16")
TESTINGS = ("center", "10-crop", "multi-scale")
