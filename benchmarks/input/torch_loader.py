"""The peer of pipeline.py: a PyTorch DataLoader with two workers that reads, augments and normalises JPEG files.

    PYTHON_WITH_TORCH benchmarks/input/torch_loader.py FOLDER HEIGHT WIDTH PADDING IDENTITIES IMAGES BATCHES

The transforms are those of torchvision on Pillow images, written out: Resize (bilinear), RandomHorizontalFlip, Pad,
RandomCrop, ToTensor, Normalize; batches are IDENTITIES x IMAGES. Prints seconds and CPU seconds of the batches as JSON.
"""

import json
import random
import resource
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset

WORKERS = 2
MEAN, STD = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class People(Dataset):
    """The photographs of a folder in the Market-1501 layout, augmented."""

    def __init__(self, files, height, width, padding):
        self.files, self.size, self.padding = files, (width, height), padding
        self.mean, self.std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        with Image.open(self.files[index]) as file:
            image = file.convert("RGB").resize(self.size, Image.Resampling.BILINEAR)
        if random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        image = ImageOps.expand(image, self.padding)
        left, top = (random.randint(0, 2 * self.padding) for _ in range(2))
        image = image.crop((left, top, left + self.size[0], top + self.size[1]))
        tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().to(torch.float32).div(255)
        return tensor.sub_(self.mean).div_(self.std), index


class Balanced(torch.utils.data.Sampler):
    """P x K batches: random identities, random images of each."""

    def __init__(self, files, identities, images, batches):
        self.of = defaultdict(list)
        for index, file in enumerate(files):
            self.of[Path(file).name.split("_")[0]].append(index)
        self.identities, self.images, self.batches = identities, images, batches

    def __len__(self):
        return self.batches

    def __iter__(self):
        for _ in range(self.batches):
            chosen = random.sample(list(self.of), self.identities)
            yield [index for identity in chosen for index in random.choices(self.of[identity], k=self.images)]


def cpu_seconds():
    """Of this process and of the workers that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main():
    """Reads all batches once."""
    folder, *numbers = sys.argv[1:]
    height, width, padding, identities, images, batches = map(int, numbers)
    files = sorted(map(str, Path(folder).glob("*.jpg")))
    random.seed(0)
    torch.set_num_threads(1)  # as in the workers: two of them keep both cores busy
    loader = DataLoader(
        People(files, height, width, padding),
        batch_sampler=Balanced(files, identities, images, batches),
        num_workers=WORKERS,
    )
    before, times = cpu_seconds(), []
    for _ in loader:
        times.append(time.perf_counter())
    # The first batch is waited for while the workers start; those that follow are at the speed of the workers.
    seconds = (times[-1] - times[0]) / (len(times) - 1) * len(times)
    print(json.dumps({"seconds": seconds, "cpu": cpu_seconds() - before}))


if __name__ == "__main__":
    main()
