class RingBuffer:
    """Fixed size buffer that overwrites its oldest entry when full.

    Index 0 is the oldest entry and index -1 is the newest.
    """

    def __init__(self, capacity):
        if capacity <= 0:
            raise ValueError("capacity must be greater than zero")
        self._slots = [None] * capacity
        self._start = 0
        self._used = 0

    @property
    def capacity(self):
        return len(self._slots)

    @property
    def full(self):
        return self._used == self.capacity

    def append(self, entry):
        """Store entry and return whatever it pushed out, if anything."""
        end = (self._start + self._used) % self.capacity
        evicted = self._slots[end]
        self._slots[end] = entry
        if self.full:
            self._start = (self._start + 1) % self.capacity
        else:
            self._used += 1
        return evicted

    def popleft(self):
        if self._used == 0:
            raise IndexError("the buffer is empty")
        entry, self._slots[self._start] = self._slots[self._start], None
        self._start = (self._start + 1) % self.capacity
        self._used -= 1
        return entry

    def __len__(self):
        return self._used

    def __getitem__(self, index):
        if not -self._used <= index < self._used:
            raise IndexError(index)
        return self._slots[(self._start + index % self._used) % self.capacity]
