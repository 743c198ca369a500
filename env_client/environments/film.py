"""Videos: pictures of any shape and kind, into a file that is whole or not there.

H.264 takes pictures of even sides alone and players show small ones badly, so pictures are enlarged by whole factors,
pixels staying squares, and padded by what is missing. The first one decides the size; later ones are fitted to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seedbed.common.extras import missing_extra

Picture = NDArray[np.uint8]
"""`[H, W, 3]`, red, green, blue."""

_SMALLEST_SIDE = 256
"""Of the longer side; smaller pictures are enlarged."""

_LARGEST_SIDE = 2048
"""Of either side: larger pictures are thinned out."""

_BAR, _GAP, _HEIGHT = 8, 2, 128  # pixels of `bars`
_MOST_BARS = 128


class Film:
    """One video, written as its pictures come.

    Args:
        file: of one of `VIDEO_ENDINGS`; it is there when `close` has returned.
        fps: pictures a second.

    Raises:
        MissingExtraError: PyAV is not installed.
        OSError: the file cannot be written.
    """

    def __init__(self, file: Path, fps: float) -> None:
        self._file = file
        self._draft = file.with_name(f".{file.name}.part")
        self._is_gif = file.suffix.lower() == ".gif"
        self._fps = Fraction(fps).limit_denominator(1000)
        self._container = _av().open(str(self._draft), "w", format=file.suffix.lower()[1:])
        self._stream: Any = None
        self._palettes: _Palettes | None = None
        self._shape = (0, 0)
        self._newest: Picture | None = None
        self.num_pictures = 0

    def add(self, picture: NDArray[Any]) -> None:
        """Adds a picture: `[H, W]`, or `[H, W, C]` or `[C, H, W]` of 1 to 4 channels; bytes, floats or booleans."""
        self._write(fitted(as_picture(picture), self._shape if self._stream is not None else None))

    def hold(self, seconds: float) -> None:
        """Shows the newest picture for that much longer."""
        if self._newest is not None:
            for _ in range(round(seconds * self._fps)):
                self._write(self._newest)

    def close(self) -> None:
        """Ends the video; a film without a picture leaves no file, nor does one that cannot be ended."""
        try:
            if self._stream is not None:
                self._encode(None)
            self._container.close()
            if self.num_pictures:
                self._draft.replace(self._file)
        finally:
            self._draft.unlink(missing_ok=True)

    def _write(self, picture: Picture) -> None:
        if self._stream is None:
            self._begin(picture)
        frame = _av().VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame.pts, frame.time_base = self.num_pictures, 1 / self._fps
        self._encode(frame)
        self._newest = picture
        self.num_pictures += 1

    def _begin(self, picture: Picture) -> None:
        """The first picture decides the size."""
        height, width = self._shape = picture.shape[:2]
        codecs, pixels = (["gif"], "pal8") if self._is_gif else (["libx264", "mpeg4"], "yuv420p")
        codec = next(name for name in codecs if name in _av().codecs_available)
        self._stream = self._container.add_stream(codec, rate=self._fps)
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, pixels
        if codec == "libx264":
            self._stream.options = {"crf": "20", "preset": "veryfast"}
        if self._is_gif:
            self._palettes = _Palettes(width, height, self._fps)

    def _encode(self, frame: Any) -> None:
        """A frame; None: there is no more."""
        for ready in [frame] if self._palettes is None else self._palettes.coloured(frame):
            self._mux(ready)
        if frame is None and self._palettes is not None:
            self._mux(None)

    def _mux(self, frame: Any) -> None:
        for packet in self._stream.encode(frame):
            self._container.mux(packet)


class _Palettes:
    """256 colours for each frame of a GIF: FFmpeg's own conversion has the same few for all, and leaves traces."""

    def __init__(self, width: int, height: int, fps: Fraction) -> None:
        graph = self._graph = _av().filter.Graph()
        source = graph.add_buffer(width=width, height=height, format="rgb24", time_base=1 / fps)
        split = graph.add("split")
        palette = graph.add("palettegen", "stats_mode=single:reserve_transparent=0")
        use = graph.add("paletteuse", "new=1:dither=none")
        source.link_to(split)
        split.link_to(palette, 0, 0)
        split.link_to(use, 1, 0)
        palette.link_to(use, 0, 1)
        use.link_to(graph.add("buffersink"))
        graph.configure()

    def coloured(self, frame: Any) -> list[Any]:
        """The frames that are ready when this one has come; None: all that are left."""
        self._graph.push(frame)
        ready = []
        while True:
            try:
                ready.append(self._graph.pull())
            except (BlockingIOError, EOFError):
                return ready


def as_picture(shown: NDArray[Any], bounds: tuple[float, float] | None = None) -> Picture:
    """Any array with an image in it as red, green and blue bytes; larger than `_LARGEST_SIDE` it is thinned out.

    Args:
        shown: `[H, W]`, or `[H, W, C]` or `[C, H, W]` of 1 to 4 channels; of several the last one.
        bounds: black and white; None: as they probably are.

    Raises:
        ValueError: there is none in it.
    """
    array = np.asarray(shown)
    if array.ndim == 4:
        array = array[-1]
    if array.ndim == 3 and array.shape[0] in (1, 2, 3, 4) and array.shape[2] not in (1, 2, 3, 4):
        array = np.moveaxis(array, 0, 2)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or not array.size:
        raise ValueError(f"expected an image, got an array of shape {shown.shape}")
    every = max(1, -(-max(array.shape[:2]) // _LARGEST_SIDE))
    array = _as_bytes(array[::every, ::every], bounds)
    channels = array.shape[2]
    if channels == 3:
        return array
    if channels == 4:
        return array[..., :3]
    if channels == 2:  # two layers: one red, one green
        return np.concatenate([array, np.zeros_like(array[..., :1])], axis=2)
    return np.repeat(array[..., -1:], 3, axis=2)  # one channel; of a stack of many the newest


def bars(numbers: NDArray[Any], low: NDArray[np.float64], high: NDArray[np.float64]) -> Picture:
    """Numbers as bars.

    Args:
        numbers: of any shape; the first 128 of them are shown.
        low, high: what is drawn at the bottom and at the top, of the same shape.
    """
    values, least, most = (np.asarray(a, np.float64).reshape(-1)[:_MOST_BARS] for a in (numbers, low, high))
    span = np.where(most > least, most - least, 1.0)
    shares = np.clip(np.nan_to_num((values - least) / span, nan=0.0), 0, 1)
    picture = np.full((_HEIGHT + 2 * _GAP, len(values) * (_BAR + _GAP) + _GAP, 3), 24, np.uint8)
    for number, share in enumerate(shares):
        left = _GAP + number * (_BAR + _GAP)
        top = _GAP + round((1 - share) * (_HEIGHT - 1))
        picture[_GAP : _GAP + _HEIGHT, left : left + _BAR] = 48
        picture[top : _GAP + _HEIGHT, left : left + _BAR] = (86, 156, 214)
    return picture


def beside(pictures: Sequence[Picture]) -> Picture:
    """Several pictures in one row, each as high as the highest."""
    height = max(picture.shape[0] for picture in pictures)
    parts = []
    for picture in pictures:
        large = picture.repeat(max(1, height // picture.shape[0]), 0).repeat(max(1, height // picture.shape[0]), 1)
        parts.append(np.pad(large, ((0, height - large.shape[0]), (0, 4), (0, 0))))
    return np.concatenate(parts, axis=1)


def fitted(picture: Picture, shape: tuple[int, int] | None) -> Picture:
    """A picture of this shape, by repeating or leaving out pixels; None: enlarged and made even."""
    if shape is None:
        factor = max(1, -(-_SMALLEST_SIDE // max(picture.shape[:2])))
        large = picture.repeat(factor, 0).repeat(factor, 1)
        return np.pad(large, ((0, large.shape[0] % 2), (0, large.shape[1] % 2), (0, 0)), mode="edge")
    rows, columns = (np.arange(new) * old // new for new, old in zip(shape, picture.shape, strict=False))
    again: Picture = picture[rows][:, columns]
    return again


def _as_bytes(array: NDArray[Any], bounds: tuple[float, float] | None) -> Picture:
    if array.dtype == np.uint8 and bounds in (None, (0, 255)):
        return array
    if array.dtype.kind == "b":
        return array.astype(np.uint8) * 255
    values = np.nan_to_num(array.astype(np.float64), posinf=0.0, neginf=0.0)
    if bounds is not None:
        values = (np.clip(values, *bounds) - bounds[0]) / ((bounds[1] - bounds[0]) or 1.0) * 255
    elif array.dtype.kind == "f" and values.min() >= 0 and values.max() <= 1:
        values = values * 255
    elif values.min() < 0 or values.max() > 255 or (array.dtype.kind != "u" and values.max() <= 16):
        span = (values.max() - values.min()) or 1.0
        values = (values - values.min()) / span * 255  # codes of things, or bounds that nobody told
    return values.astype(np.uint8)


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise missing_extra("video", f"--video needs it ({error})") from error
    return av
