"""The systems that the paper compares itself with, and others of its time, each made of a network and the recipes it is trained by.

Of most of them the network is named in print and little else. What could be read in a paper or its authors' repository is a recipe,
"published"; all are trained by one, "common": the paper's optimizer with the honest augmentation. What is a choice is said in `note`.
"""

from dataclasses import dataclass, field

__all__ = ["System", "SYSTEMS", "TABLE_III", "common"]


def common(**options):
    """Return the recipe that all systems share, as options of a Config; `options` differ from it."""
    return {"recipe": "common", "epochs": 20, "batch_size": 32, "learning_rate": 1e-3} | options


@dataclass(frozen=True)
class System:
    """A network as it is compared.

    Parameters
    ----------
    title : str
    cited : str; who of those that the paper cites used it, as far as the paper or a source that could be read says
    network : str; a name of networks.NETWORKS
    note : str; what of it is known, and what is a choice
    recipes : {name: options of a Config}; without `steps_per_epoch`, an epoch is one pass over the training images
    options : options of a Config that all recipes have
    after : str; the system whose training of the same images it begins with, "" for none
    least : int; the least size of images that the network takes
    """

    title: str
    cited: str
    network: str
    note: str = ""
    recipes: dict = field(default_factory=lambda: {"common": common()})
    options: dict = field(default_factory=dict)
    after: str = ""
    least: int = 8


_FROM_SCRATCH = "It begins with random weights."
_IMAGENET = {"network": "efficientnet_lite0", "options": {"weights": "imagenet"}}

SYSTEMS = {
    "cov19net": System("COV-19Net", "Asif, Amjad", "cov19net", "Published: one of seven changes an image, vertical flips among them; robust: "
                       "what did best on held-out sources (--recipe robust). Both have 100 batches an epoch, more images than others see.", {
                           "common": common(), "published": common(recipe="paper", augmentation="paper", steps_per_epoch=100),
                           "robust": common(recipe="robust", steps_per_epoch=100)}, least=18),
    "resnet50": System("ResNet-50", "Narin et al., Bukhari et al., Joaquin", "resnet50", _FROM_SCRATCH, least=32),
    "vgg19": System("VGG-19", "Apostolopoulos et al.", "vgg19", f"{_FROM_SCRATCH} Its head, a dense layer of 1,024 on means, is a choice.",
                    options={"head": [1024]}, least=32),
    "covid_net": System("COVID-Net (Keras branch)", "Wang et al.", "covid_net", "Its authors began with weights of ImageNet; here it begins with "
                        "random ones. Published: Adam with amsgrad, learning rate 2e-5, reduced on plateaus; classes of equal weight in the "
                        "place of 1, 1 and 25.", {
                            "common": common(),
                            "published": common(recipe="covid-net", learning_rate=2e-5, batch_size=8, epochs=10)},
                        least=32),
    "covid_net_pepx": System("COVID-Net (PEPX)", "Wang et al.", "covid_net_pepx", "The widths inside its blocks were never published and are "
                             f"chosen. {_FROM_SCRATCH}", least=32),
    "mobilenet_v2": System("MobileNetV2", "", "mobilenet_v2", _FROM_SCRATCH, least=32),
    "inception_v3": System("InceptionV3", "Narin et al.", "inception_v3", _FROM_SCRATCH, least=75),
    "inception_resnet_v2": System("Inception-ResNet-V2", "Narin et al.", "inception_resnet_v2", _FROM_SCRATCH, least=75),
    "covid_caps": System("COVID-CAPS", "Afshar et al.", "covid_caps", "Not pre-trained. Published: no augmentation, balanced classes, batches "
                         "of 16, 100 epochs.", {
                             "common": common(),
                             "published": common(recipe="covid-caps", batch_size=16, epochs=100)}, least=18),
    "efficientnet_lite0": System("EfficientNet-lite0", "", "efficientnet_lite0", "A small network of which weights of ImageNet "
                                 "can be had freely; here it begins with random ones.", least=32),
    "efficientnet_lite0_frozen": System("EfficientNet-lite0 (ImageNet, frozen)", "", **_IMAGENET, least=32, note=(
        "Weights of ImageNet, of which only the head is trained; without augmentation, so that features are computed once."),
        recipes={"common": common(augmentation="none", freeze="trunk")}),
    "efficientnet_lite0_tuned": System("EfficientNet-lite0 (ImageNet, fine-tuned)", "", "efficientnet_lite0", least=32, note=(
        "From the frozen one all layers but batch normalizations are trained on, with a tenth of the learning rate."),
        recipes={"common": common(freeze="normalization", learning_rate=1e-4)}, after="efficientnet_lite0_frozen"),
}

# The studies of the paper's Table III, and the system that stands for each.
TABLE_III = {"Asif, Amjad": "cov19net", "Narin et al.": "resnet50", "Bukhari et al.": "resnet50", "Apostolopoulos et al.": "vgg19",
             "Wang et al.": "covid_net"}
