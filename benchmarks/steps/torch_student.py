"""The peer of train_step.py: a derived network in eager PyTorch, in the plain way of DARTS' and Auto-ReID's code.

    PYTHON_WITH_TORCH benchmarks/steps/torch_student.py GENOTYPE C H W B CELLS [--identities 751] [--repeats 5]
        [--check FILE] [--operations JSON]

GENOTYPE is a genotype.json. The classes are those of DARTS (`operations.py`, `model.py`) and of AutoDL-Projects
(`PartAwareOp`), on the stem "inet4" and under a BN neck and a classifier. Prints JSON on the last line: parameters,
median seconds of a training step (cross-entropy, batch-hard triplet, Adam), CPU seconds, and peak memory. --check reads
weights that train_step.py wrote, in the order of the modules, and adds how far the outputs are from those beside them.
--operations, for candidates.py, times operations forward and backward instead.
"""

import argparse
import json
import resource
import statistics
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

PARTS = 4
MEAN, STD = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


class ReLUConvBN(nn.Module):
    """How a cell brings its inputs to its own width (DARTS)."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.op = nn.Sequential(nn.ReLU(), nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        return self.op(x)


class FactorizedReduce(nn.Module):
    """Two 1x1 convolutions of stride 2, the second shifted by a pixel (DARTS)."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv_1 = nn.Conv2d(inputs, outputs // 2, 1, 2, bias=False)
        self.conv_2 = nn.Conv2d(inputs, outputs - outputs // 2, 1, 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x):
        x = F.relu(x)
        shifted = F.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:] if x.shape[2] % 2 or x.shape[3] % 2 else x[:, :, 1:, 1:]
        return self.bn(torch.cat([self.conv_1(x), self.conv_2(shifted)], 1))


class SepConv(nn.Module):
    """ReLU, depthwise, pointwise, BN, twice (DARTS)."""

    def __init__(self, channels, kernel, stride):
        super().__init__()
        self.op = nn.Sequential(*_separable(channels, kernel, stride), *_separable(channels, kernel, 1))

    def forward(self, x):
        return self.op(x)


class DilConv(nn.Module):
    """ReLU, depthwise of dilation 2, pointwise, BN (DARTS)."""

    def __init__(self, channels, kernel, stride):
        super().__init__()
        self.op = nn.Sequential(*_separable(channels, kernel, stride, dilation=2))

    def forward(self, x):
        return self.op(x)


def _separable(channels, kernel, stride, dilation=1):
    padding = dilation * (kernel // 2)
    return [
        nn.ReLU(),
        nn.Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
    ]


class PartAware(nn.Module):
    """Auto-ReID's exchange between horizontal strips (AutoDL-Projects, `PartAwareOp`)."""

    def __init__(self, channels, stride):
        super().__init__()
        self.hidden = channels // 3
        self.local = nn.ModuleList(
            nn.Sequential(nn.ReLU(), nn.Conv2d(channels, self.hidden, 1), nn.BatchNorm2d(self.hidden))
            for _ in range(PARTS)
        )
        self.keys, self.queries = nn.Linear(self.hidden, self.hidden), nn.Linear(self.hidden, self.hidden)
        wide = channels + self.hidden
        self.last = (
            FactorizedReduce(wide, channels)
            if stride == 2
            else nn.Sequential(nn.Conv2d(wide, channels, 1, bias=False), nn.BatchNorm2d(channels))
        )

    def forward(self, x):
        batch, _, height, width = x.shape
        rows = [int(i * height / PARTS) for i in range(PARTS + 1)]
        strips = [
            local(F.adaptive_avg_pool2d(x[:, :, start:stop], 1))
            for local, start, stop in zip(self.local, rows[:-1], rows[1:], strict=True)
        ]
        features = torch.cat(strips, 2).view(batch, -1, PARTS).transpose(1, 2).contiguous()
        scores = torch.bmm(self.keys(features), self.queries(features).transpose(1, 2).contiguous())
        mixed = torch.bmm(torch.softmax(scores, 2), features).transpose(1, 2).contiguous()
        spread = [
            mixed[:, :, i : i + 1, None].expand(batch, self.hidden, rows[i + 1] - rows[i], 1) for i in range(PARTS)
        ]
        spread = torch.cat(spread, 2).expand(batch, self.hidden, height, width)
        return self.last(torch.cat([x, spread], 1))


OPERATIONS = {
    "max_pool_3x3": lambda c, s: nn.MaxPool2d(3, s, 1),
    "avg_pool_3x3": lambda c, s: nn.AvgPool2d(3, s, 1, count_include_pad=False),
    "skip_connect": lambda c, s: nn.Identity() if s == 1 else FactorizedReduce(c, c),
    "sep_conv_3x3": lambda c, s: SepConv(c, 3, s),
    "sep_conv_5x5": lambda c, s: SepConv(c, 5, s),
    "dil_conv_3x3": lambda c, s: DilConv(c, 3, s),
    "dil_conv_5x5": lambda c, s: DilConv(c, 5, s),
    "part_aware": lambda c, s: PartAware(c, s),
}


class Cell(nn.Module):
    """Each node is the sum of two operations (DARTS, `model.py`)."""

    def __init__(self, genotype, older, newer, channels, reduction, after_reduction):
        super().__init__()
        self.preprocess0 = FactorizedReduce(older, channels) if after_reduction else ReLUConvBN(older, channels)
        self.preprocess1 = ReLUConvBN(newer, channels)
        pairs = genotype["reduce" if reduction else "normal"]
        self.sources, self.concat = [source for _, source in pairs], genotype["concat"]
        self.ops = nn.ModuleList(
            OPERATIONS[name](channels, 2 if reduction and source < 2 else 1) for name, source in pairs
        )

    def forward(self, older, newer):
        states = [self.preprocess0(older), self.preprocess1(newer)]
        for node in range(len(self.ops) // 2):
            first, second = 2 * node, 2 * node + 1
            states.append(self.ops[first](states[self.sources[first]]) + self.ops[second](states[self.sources[second]]))
        return torch.cat([states[i] for i in self.concat], 1)


class Student(nn.Module):
    """Stem, cells, BN neck and classifier."""

    def __init__(self, genotype, channels, cells, reductions, identities):
        super().__init__()
        half = channels // 2
        self.stem = nn.Sequential(
            *(nn.Conv2d(3, half, 3, 2, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU()),
            *(nn.Conv2d(half, channels, 3, 2, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()),
            *(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels)),
        )
        self.cells = nn.ModuleList()
        older = newer = channels
        after_reduction = False
        for i in range(cells):
            reduction = i in reductions
            channels *= 2 if reduction else 1
            self.cells.append(Cell(genotype, older, newer, channels, reduction, after_reduction))
            older, newer, after_reduction = newer, len(genotype["concat"]) * channels, reduction
        self.neck = nn.BatchNorm1d(newer)
        self.neck.bias.requires_grad_(False)
        self.classifier = nn.Linear(newer, identities, bias=False)

    def forward(self, x):
        older = newer = self.stem(x)
        for cell in self.cells:
            older, newer = newer, cell(older, newer)
        features = newer.mean((2, 3))
        embedding = self.neck(features)
        return features, embedding, self.classifier(embedding)


def triplet(features, labels, margin=0.3):
    """Batch hard, as torchreid has it."""
    n = features.shape[0]
    squares = features.pow(2).sum(1, keepdim=True).expand(n, n)
    distances = (squares + squares.t()).addmm(features, features.t(), beta=1, alpha=-2).clamp(min=1e-12).sqrt()
    same = labels.expand(n, n).eq(labels.expand(n, n).t())
    farthest = torch.stack([distances[i][same[i]].max() for i in range(n)])
    nearest = torch.stack([distances[i][~same[i]].min() for i in range(n)])
    return F.margin_ranking_loss(nearest, farthest, torch.ones_like(nearest), margin=margin)


def loss_of(model, images, labels):
    """Cross-entropy and triplet loss of a batch."""
    features, _, logits = model(images)
    return F.cross_entropy(logits, labels) + triplet(features, labels)


def load(model, arrays):
    """Fills the network: weight and bias of every module, then its running statistics, in the order of the modules."""
    arrays = iter(arrays)
    with torch.no_grad():
        for module in model.modules():
            tensors = [module.weight, module.bias] if hasattr(module, "weight") else []
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                tensors += [module.running_mean, module.running_var]
            for tensor in tensors:
                if tensor is not None:
                    tensor.copy_(torch.from_numpy(next(arrays)).reshape(tensor.shape))
    if next(arrays, None) is not None:
        raise SystemExit("more weights than the network has")


def check(model, path):
    """Largest differences to the outputs in the file, as shares of the largest number there, and of the loss."""
    with np.load(path) as file:
        content = dict(file)
    load(model, [content[f"weight_{i}"] for i in range(int(content["weights"]))])
    images = torch.from_numpy(content["images"])
    images = ((images - torch.tensor(MEAN)) / torch.tensor(STD)).permute(0, 3, 1, 2).contiguous()
    found = {}
    with torch.no_grad():
        outputs = dict(zip(("features", "embedding", "logits"), model.eval()(images), strict=True))
        for name, output in outputs.items():
            difference = np.abs(output.numpy() - content[name]).max()
            found[f"{name}_difference"] = float(difference / np.abs(content[name]).max())
        loss = float(loss_of(model.train(), images, torch.from_numpy(content["labels"]).long()))
    return {**found, "loss_difference": abs(loss / float(content["loss"]) - 1)}


def time_steps(model, images, labels, repeats):
    """Seconds and CPU seconds of a step."""
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 3.5e-4, weight_decay=5e-4)
    times, cpu = [], []
    for _ in range(repeats + 2):
        since, since_cpu = time.perf_counter(), time.process_time()
        optimizer.zero_grad()
        loss_of(model, images, labels).backward()
        optimizer.step()
        times.append(time.perf_counter() - since)
        cpu.append(time.process_time() - since_cpu)
    return {"seconds": statistics.median(times[2:]), "cpu": statistics.median(cpu[2:])}


def time_operations(cases, repeats):
    """Seconds forward and backward, and forward alone, of every (operation, channels, height, width, stride, batch)."""
    results = []
    for name, channels, height, width, stride, batch in cases:
        operation = OPERATIONS[name](channels, stride)
        x = torch.randn(batch, channels, height, width, requires_grad=True)
        gradient = torch.randn_like(operation(x))
        times = []
        for _ in range(repeats + 2):
            since = time.perf_counter()
            output = operation(x)
            middle = time.perf_counter()
            output.backward(gradient)
            times.append((time.perf_counter() - since, middle - since))
        results.append([statistics.median(each) for each in zip(*times[2:], strict=True)])
    return results


def main():
    """Checks outputs, times operations or times steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("genotype")
    parser.add_argument("size", type=int, nargs=5)
    parser.add_argument("--reductions", type=int, nargs="*", default=(2, 4, 6))
    parser.add_argument("--identities", type=int, default=751)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--check")
    parser.add_argument("--operations", help="JSON: a list of [operation, channels, height, width, stride, batch]")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(2)
    if arguments.operations:
        print(json.dumps(time_operations(json.loads(arguments.operations), arguments.repeats)))
        return
    channels, height, width, batch, cells = arguments.size
    with open(arguments.genotype, encoding="utf-8") as file:
        genotype = json.load(file)
    model = Student(genotype, channels, cells, arguments.reductions, arguments.identities)
    result = {"parameters": sum(p.numel() for p in model.parameters() if p.requires_grad)}
    if arguments.check:
        result |= check(model, arguments.check)
    else:
        labels = torch.arange(batch) // 4
        result |= time_steps(model, torch.randn(batch, 3, height, width), labels, arguments.repeats)
    print(json.dumps({**result, "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9}))


if __name__ == "__main__":
    main()
