"""What the lessons use: exercise checkers (`check`), pictures (`show`), the notebooks' tools."""
