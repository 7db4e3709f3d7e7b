"""Shuffle a playlist so that the songs of one artist rarely meet."""

import random
from collections import defaultdict
from dataclasses import dataclass


@dataclass(frozen=True)
class Track:
    artist: str
    title: str
    seconds: int


def fisher_yates(items, rng):
    """Shuffle a list in place; every order is equally likely."""
    for last in range(len(items) - 1, 0, -1):
        pick = rng.randint(0, last)
        items[last], items[pick] = items[pick], items[last]


def spread_shuffle(tracks, seed=None):
    """Space the tracks of each artist evenly over the whole playlist."""
    rng = random.Random(seed)
    by_artist = defaultdict(list)
    for track in tracks:
        by_artist[track.artist].append(track)
    placed = []
    for songs in by_artist.values():
        fisher_yates(songs, rng)
        stride = 1 / len(songs)
        offset = rng.uniform(0, stride)
        for k, song in enumerate(songs):
            placed.append((offset + k * stride, song))
    placed.sort(key=lambda pair: pair[0])
    return [song for _, song in placed]


def clashes(playlist):
    """Count neighbours by the same artist."""
    return sum(a.artist == b.artist for a, b in zip(playlist, playlist[1:]))


def running_time(playlist):
    minutes, seconds = divmod(sum(track.seconds for track in playlist), 60)
    return f"{minutes} min {seconds:02d} s"
