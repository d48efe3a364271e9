"""A plain version of the rules of ranking, written apart from the package: loops, full sorts, exact numbers."""

from fractions import Fraction

import numpy as np


def cosine_key(query, feature):
    """Orders integer features as 1 - cosine does, without rounding: by minus the cosine squared, with its sign."""
    product = sum(int(a) * int(b) for a, b in zip(query, feature, strict=True))
    squares = sum(int(b) ** 2 for b in feature)
    return -Fraction(product * abs(product), squares) if squares else Fraction(0)


def euclidean_key(query, feature):
    return sum((Fraction(float(a)) - Fraction(float(b))) ** 2 for a, b in zip(query, feature, strict=True))


def kept_order(key, query, gallery, row):
    """The gallery of one query in its order, junk and its own person and camera left out; and which match."""
    features, identities, cameras = gallery
    identity, camera = query[1][row], query[2][row]
    kept = [
        g
        for g in range(len(features))
        if identities[g] != -1 and not (identities[g] == identity and cameras[g] == camera)
    ]
    order = sorted(kept, key=lambda g: (key(query[0][row], features[g]), g))
    return order, [identities[g] == identity for g in order]


def average_precision(matches, trapezoid):
    """Along the whole list; the trapezoid follows compute_AP.m of the Market-1501 code line by line."""
    good = sum(matches)
    if not trapezoid:
        return sum(sum(matches[: i + 1]) / (i + 1) for i, match in enumerate(matches) if match) / good
    area, old_recall, old_precision, found = 0.0, 0.0, 1.0, 0
    for place, match in enumerate(matches):
        found += match
        recall, precision = found / good, found / (place + 1)
        area += (recall - old_recall) * (old_precision + precision) / 2
        old_recall, old_precision = recall, precision
        if found == good:
            break
    return area


def judge(key, query, gallery, *, trapezoid=False, zero=False):
    """mAP, mINP, CMC up to 50 and the queries without a match, of (features, identities, cameras)."""
    precisions, penalties, curves, invalid = [], [], [], 0
    for row in range(len(query[0])):
        _, matches = kept_order(key, query, gallery, row)
        if any(matches):
            last = max(place for place, match in enumerate(matches) if match)
            precisions.append(average_precision(matches, trapezoid))
            penalties.append(sum(matches) / (last + 1))
            curves.append([any(matches[:k]) for k in range(1, 51)])
        else:
            invalid += 1
            if zero:
                precisions.append(0)
                penalties.append(0)
                curves.append([False] * 50)
    return np.mean(precisions), np.mean(penalties), np.mean(curves, axis=0), invalid
