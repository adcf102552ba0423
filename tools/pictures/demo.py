"""docs/pictures/demo.gif: a LoRA dropped into the live folder, and the same seeds drawn again. Everything in it comes from one run of the demo.

    .venv/bin/python tools/pictures/demo.py [--out docs/pictures/demo.gif]

Needs the build and Pillow (of the tests' environment).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parents[2]
SIZE = (660, 360)
GRID, PLACE = 312, (330, 34)
PAPER, INK, SOFT, LINE, ACCENT = (250, 250, 248), (34, 36, 40), (120, 124, 130), (206, 208, 212), (24, 118, 210)
FOLDER = (26, 66, 296, 176)
STAGES = ("arrival: the file is whole", "catalog: what it is", "delta: packed for this model", "refit: new weights, same engine")
#: Frames of a move and of a change of the picture, and how long each stays.
MOVES, STRIPES, MOVE_MS, STRIPE_MS, REST_MS = 9, 13, 55, 60, 1700


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own, so that every computer makes the same picture."""
    return ImageFont.load_default(size)


def run_demo(out: Path) -> tuple[dict, Image.Image, Image.Image]:
    """The report, and the pictures before and after. Raises SystemExit when the demo did not do what it promises."""
    command = ["node", str(ROOT / "sidecar/bin/refit-sidecar.mjs"), "demo", "--json", "--out", str(out)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    report = json.loads(done.stdout.splitlines()[-1])
    if done.returncode != 0 or not report["restored_bit_identical"] or not report["same_host_engine_and_session"]:
        sys.exit(f"expected the demo to succeed; it answered {report}")
    before, after = (
        Image.open(out / f"{name}.png").convert("L").resize((GRID, GRID), Image.Resampling.LANCZOS) for name in ("before", "after")
    )
    return report, before, after


def mixed(old: Image.Image, new: Image.Image, share: float) -> Image.Image:
    """`new` from the top down, as the engine's batches come back."""
    picture, rows = old.copy(), round(GRID * share)
    picture.paste(new.crop((0, 0, GRID, rows)), (0, 0))
    return picture


def frame(picture: Image.Image, file_at: float, stage: int, line: str) -> Image.Image:
    """`file_at`: 0 outside of the folder, 1 in it. `stage`: how many of STAGES are done."""
    image = Image.new("RGB", SIZE, PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((26, 28), "models/loras/live", fill=INK, font=font(17))
    draw.rounded_rectangle(FOLDER, 10, outline=LINE, width=2, fill=(244, 245, 247))
    if file_at == 0:
        draw.text((110, 112), "(empty)", fill=SOFT, font=font(15))
    for number, text in enumerate(STAGES):
        done = number < stage
        y = 200 + 25 * number
        draw.ellipse((28, y + 3, 40, y + 15), fill=ACCENT if done else PAPER, outline=ACCENT if done else LINE, width=2)
        draw.text((50, y), text, fill=INK if done else SOFT, font=font(15))
    left, top = 44, 92 + round((1 - file_at) * 240)
    if file_at > 0:
        draw.rounded_rectangle((left, top, left + 232, top + 52), 8, fill=(255, 255, 255), outline=ACCENT, width=2)
        draw.text((left + 14, top + 8), "only-sevens.safetensors", fill=INK, font=font(15))
        draw.text((left + 14, top + 28), "a LoRA", fill=SOFT, font=font(13))
    draw.text((26, 318), line, fill=INK, font=font(16))
    image.paste(picture.convert("RGB"), PLACE)
    draw.rectangle((PLACE[0] - 1, PLACE[1] - 1, PLACE[0] + GRID, PLACE[1] + GRID), outline=LINE)
    draw.text((PLACE[0], 12), "64 pictures, fixed seeds, one live engine", fill=SOFT, font=font(14))
    return image


def story(before: Image.Image, after: Image.Image) -> list[tuple[Image.Image, int]]:
    frames = [(frame(before, 0, 0, "The engine draws digits."), REST_MS)]
    frames += [(frame(before, step / MOVES, 0, "Drop a LoRA into the folder ..."), MOVE_MS) for step in range(1, MOVES + 1)]
    frames += [(frame(before, 1, stage, "Drop a LoRA into the folder ..."), 160) for stage in range(1, len(STAGES) + 1)]
    frames += [
        (frame(mixed(before, after, step / STRIPES), 1, 4, "... and the next picture has it."), STRIPE_MS) for step in range(1, STRIPES + 1)
    ]
    frames.append((frame(after, 1, 4, "No rebuild, no new engine, no restart."), REST_MS + 600))
    frames += [(frame(after, 1 - step / MOVES, 0, "Take it out again ..."), MOVE_MS) for step in range(1, MOVES + 1)]
    frames += [
        (frame(mixed(after, before, step / STRIPES), 0, 0, "... and the first pictures are back,"), STRIPE_MS)
        for step in range(1, STRIPES + 1)
    ]
    frames.append((frame(before, 0, 0, "bit for bit."), REST_MS))
    return frames


def main() -> None:
    parser = argparse.ArgumentParser(description="make docs/pictures/demo.gif from a run of the demo")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/pictures/demo.gif")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        _, before, after = run_demo(Path(folder) / "demo")
    frames = story(before, after)
    # One palette for all frames: without it each would carry its own, and greys would flicker.
    palette = frames[len(frames) // 2][0].quantize(64, method=Image.Quantize.MEDIANCUT)
    pictures = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture, _ in frames]
    given.out.parent.mkdir(parents=True, exist_ok=True)
    pictures[0].save(given.out, save_all=True, append_images=pictures[1:], duration=[ms for _, ms in frames], loop=0, optimize=True)
    print(f"{given.out}: {len(pictures)} frames, {given.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
