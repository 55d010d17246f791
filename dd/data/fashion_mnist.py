"""Fashion-MNIST: 60,000 + 10,000 images of clothes, 28x28, ten balanced classes (Xiao et al., arXiv 1708.07747)."""

from dataclasses import dataclass
from pathlib import Path

from dd.data._download import Remote
from dd.data._idx import IdxDataset


@dataclass(frozen=True)
class FashionMNIST(IdxDataset):
    """Read from IDX files; Debian's package ``dataset-fashion-mnist`` holds them."""

    remotes = (
        Remote("train-images-idx3-ubyte.gz", "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
        Remote("train-labels-idx1-ubyte.gz", "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
        Remote("t10k-images-idx3-ubyte.gz", "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
        Remote("t10k-labels-idx1-ubyte.gz", "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
    )
    only_published = True  # other data of this shape are for data=mnist
    # Debian recompresses the files, so the decompressed content is what identifies them
    content_sha256 = (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    )
    mirrors = (
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    )
    system = (Path("/usr/share/datasets/fashion-mnist"),)
    hint = "install the Debian package dataset-fashion-mnist, "
