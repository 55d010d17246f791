"""What a data set must offer."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from numpy.typing import NDArray

from dd.errors import ConfigError
from dd.registry import Component

if TYPE_CHECKING:
    from dd.config import OriginOf, RunConfig, Settings


@dataclass(frozen=True)
class Pool:
    """Raw samples of a data set.

    Attributes:
        x: inputs, [samples, inputs], any number type (bytes stay bytes until the samples are chosen).
        y: labels, [samples], int64; or targets, [samples, outputs], float64.
        test_x: inputs of the set's own test part, or None if the test set is cut from ``x``.
        test_y: as ``y`` for ``test_x``.
        source: where the samples came from.
        sha256: digest of the raw content.
        scale: factor that takes ``x`` to its natural range.
    """

    x: NDArray[Any]
    y: NDArray[Any]
    test_x: NDArray[Any] | None
    test_y: NDArray[Any] | None
    source: str
    sha256: str
    scale: float = 1.0


class Dataset(Component):
    """Base of every data set and teacher.

    Attributes:
        classification: whether targets are one-hot classes (else real numbers).
        outputs: number of classes or targets.
        from_files: whether samples come from files that the user provides or downloads.
        train_samples: samples to train on, or None for a generator without end.
        test_samples: samples of the set's own test part, or None if train and test share ``train_samples``.
    """

    classification: ClassVar[bool] = True
    outputs: ClassVar[int] = 10
    from_files: ClassVar[bool] = False
    train_samples: ClassVar[int | None] = None
    test_samples: ClassVar[int | None] = None

    @abstractmethod
    def inputs(self, run: RunConfig) -> int:
        """Input dimension."""

    def image(self, run: RunConfig) -> tuple[int, int, int] | None:
        """Channels, height and width where a sample is an image (its pixels in that order), else None."""
        return None

    @abstractmethod
    def pool(self, run: RunConfig, settings: Settings) -> Pool:
        """Load or draw the raw samples.

        Raises:
            DataNotFoundError: the files are absent; the message names the fix.
        """

    def ensure(self, settings: Settings) -> None:
        """Make sure that the files are at hand, before any run starts.

        Raises:
            DataNotFoundError: they are not, and downloading was not asked for or failed.
        """

    def check(self, run: RunConfig, origin: OriginOf) -> None:
        """Refuse sizes that the set does not have, and label noise on real targets."""
        if not run.classification and run.label_noise > 0:
            if self.classification:
                allowed = f"data.targets={run.targets} has real targets without noise; use 0"
            else:
                noise = "; use data.noise" if any(axis.key == "noise" for axis in self.options) else ""
                allowed = f"data={run.data} has real targets{noise}"
            raise ConfigError("data.label_noise", run.label_noise, allowed, origin("data.label_noise"))
        if self.train_samples is None:
            return
        if self.test_samples is None:
            room, what = (
                self.train_samples - run.n_test,
                f"{self.train_samples} samples, {run.n_test} of them for testing",
            )
        else:
            room, what = self.train_samples, f"{self.train_samples} training samples"
            if run.n_test > self.test_samples:
                raise ConfigError(
                    "data.n_test",
                    run.n_test,
                    f"must be <= {self.test_samples} (data={run.data})",
                    origin("data.n_test"),
                )
        if room < 1:
            raise ConfigError(
                "data.n_test", run.n_test, f"must be < {self.train_samples} (data={run.data})", origin("data.n_test")
            )
        if run.n_train > room:
            raise ConfigError(
                "data.n_train", run.n_train, f"must be <= {room} (data={run.data} has {what})", origin("data.n_train")
            )
