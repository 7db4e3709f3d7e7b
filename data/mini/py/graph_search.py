"""Breadth first and cheapest path search over plain dictionaries."""

from collections import deque
from heapq import heappop, heappush

Graph = dict[str, dict[str, float]]


def fewest_hops(graph: Graph, start: str, goal: str) -> list[str]:
    """Return a route with the fewest edges, or an empty list."""
    came_from: dict[str, str | None] = {start: None}
    frontier = deque([start])
    while frontier:
        here = frontier.popleft()
        if here == goal:
            return _trace(came_from, goal)
        for neighbour in graph.get(here, {}):
            if neighbour not in came_from:
                came_from[neighbour] = here
                frontier.append(neighbour)
    return []


def cheapest(graph: Graph, start: str) -> dict[str, float]:
    """Dijkstra: lowest total weight from start to each reachable node."""
    settled: dict[str, float] = {}
    queue = [(0.0, start)]
    while queue:
        cost, here = heappop(queue)
        if here in settled:
            continue
        settled[here] = cost
        for neighbour, weight in graph.get(here, {}).items():
            if neighbour not in settled:
                heappush(queue, (cost + weight, neighbour))
    return settled


def _trace(came_from: dict[str, str | None], goal: str) -> list[str]:
    route: list[str] = []
    step: str | None = goal
    while step is not None:
        route.append(step)
        step = came_from[step]
    return route[::-1]
