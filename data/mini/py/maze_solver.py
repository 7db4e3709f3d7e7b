"""Carve random mazes and find the way out of drawn ones."""

import random
from collections import deque

WALL, FLOOR, PATH = "#", " ", "."


def carve(width, height, seed=None):
    """Return a maze of width x height rooms as a list of strings."""
    rng = random.Random(seed)
    grid = [[WALL] * (2 * width + 1) for _ in range(2 * height + 1)]
    grid[1][1] = FLOOR
    trail = [(1, 1)]
    while trail:
        r, c = trail[-1]
        options = [
            (dr, dc)
            for dr, dc in ((0, 2), (2, 0), (0, -2), (-2, 0))
            if 0 < r + dr < len(grid) and 0 < c + dc < len(grid[0]) and grid[r + dr][c + dc] == WALL
        ]
        if not options:
            trail.pop()
            continue
        dr, dc = rng.choice(options)
        grid[r + dr // 2][c + dc // 2] = grid[r + dr][c + dc] = FLOOR
        trail.append((r + dr, c + dc))
    return ["".join(row) for row in grid]


def solve(maze, start, goal):
    """Mark a shortest route with dots, or return None if there is none."""
    parent = {start: start}
    queue = deque([start])
    while queue and goal not in parent:
        r, c = queue.popleft()
        for spot in ((r + 1, c), (r - 1, c), (r, c + 1), (r, c - 1)):
            if spot not in parent and maze[spot[0]][spot[1]] != WALL:
                parent[spot] = (r, c)
                queue.append(spot)
    if goal not in parent:
        return None
    drawing = [list(row) for row in maze]
    while True:
        drawing[goal[0]][goal[1]] = PATH
        if goal == start:
            return ["".join(row) for row in drawing]
        goal = parent[goal]
