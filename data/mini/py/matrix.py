"""Small dense matrices of numbers."""

from fractions import Fraction


class Matrix:
    def __init__(self, rows):
        self.rows = [list(row) for row in rows]
        widths = {len(row) for row in self.rows}
        if len(widths) != 1:
            raise ValueError("a matrix needs rows of equal length")
        self.shape = (len(self.rows), widths.pop())

    @classmethod
    def identity(cls, size):
        return cls([[int(i == j) for j in range(size)] for i in range(size)])

    def __matmul__(self, other):
        if self.shape[1] != other.shape[0]:
            raise ValueError(f"cannot multiply {self.shape} by {other.shape}")
        columns = list(zip(*other.rows))
        return Matrix(
            [sum(x * y for x, y in zip(row, column)) for column in columns]
            for row in self.rows
        )

    def __eq__(self, other):
        return isinstance(other, Matrix) and self.rows == other.rows

    def determinant(self):
        """Exact determinant of an integer or rational matrix, by elimination."""
        size, width = self.shape
        if size != width:
            raise ValueError("determinant needs a square matrix")
        work = [[Fraction(cell) for cell in row] for row in self.rows]
        result = Fraction(1)
        for k in range(size):
            pivot = next((r for r in range(k, size) if work[r][k]), None)
            if pivot is None:
                return Fraction(0)
            if pivot != k:
                work[k], work[pivot] = work[pivot], work[k]
                result = -result
            result *= work[k][k]
            for r in range(k + 1, size):
                factor = work[r][k] / work[k][k]
                work[r] = [a - factor * b for a, b in zip(work[r], work[k])]
        return result
