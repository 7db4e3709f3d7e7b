"""Binary min heap written out by hand, plus a heap sort that uses it."""


class MinHeap:
    def __init__(self, items=()):
        self.data = list(items)
        # Every index past the middle is a leaf and already a valid heap.
        for index in range(len(self.data) // 2 - 1, -1, -1):
            self._sink(index)

    def push(self, item):
        """Add item and let it float to its level."""
        self.data.append(item)
        child = len(self.data) - 1
        while child > 0:
            parent = (child - 1) // 2
            if self.data[parent] <= self.data[child]:
                break
            self.data[parent], self.data[child] = self.data[child], self.data[parent]
            child = parent

    def pop(self):
        """Remove the smallest item and return it."""
        if not self.data:
            raise IndexError("heap is empty")
        last = self.data.pop()
        if not self.data:
            return last
        smallest, self.data[0] = self.data[0], last
        self._sink(0)
        return smallest

    def _sink(self, index):
        size = len(self.data)
        while (left := 2 * index + 1) < size:
            right = left + 1
            best = right if right < size and self.data[right] < self.data[left] else left
            if self.data[index] <= self.data[best]:
                return
            self.data[index], self.data[best] = self.data[best], self.data[index]
            index = best


def heap_sort(values):
    heap = MinHeap(values)
    return [heap.pop() for _ in range(len(heap.data))]
