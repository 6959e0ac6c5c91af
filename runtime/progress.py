"""How much of a generation is done."""

# Costs of work, counted in unmasking steps of one candidate. They were measured with the shipped bundle on a CPU, and
# only decide how evenly the progress moves.
PICTURES = 3.0  # decode and encode the pictures of a window
SCORE = 1.0  # score one candidate in a window
RENDER = 1.0  # turn the tokens of a take into sound, for each window


class WorkEstimate:
    """Turns finished work into a fraction of the whole. It never falls, and is 1 only after `finish`."""

    def __init__(self, windows: int, takes: int) -> None:
        """`windows` is the expected number of windows; 0 if the file does not say how long it is."""
        self.windows, self._takes = windows, takes
        self.fraction = 0.0
        self._window = -1
        self._window_cost = 1.0
        self._render_share = 0.0  # of the whole
        self._chunks = self._rendered = 0  # chunks of sound, counted once rendering has begun

    def begin_window(self, decoding: float) -> None:
        """Start the next window, in which decoding the candidates costs `decoding`."""
        self._window += 1
        self._window_cost = PICTURES + decoding
        if self._window == 0:  # later windows cost less if a budget dropped candidates; keep the first estimate
            render = RENDER * self._takes
            self._render_share = render / (self._window_cost + render)

    def pictures_done(self, share: float) -> None:
        """Note that this share of the window's pictures is encoded."""
        self._within_window(PICTURES * share)

    def decoding_done(self, cost: float) -> None:
        """Note how much of the window's decoding is done, in the unit of `begin_window`."""
        self._within_window(PICTURES + cost)

    def _within_window(self, cost: float) -> None:
        begun = self._window + 1
        whole = max(self.windows, begun) if self.windows else begun + 1
        self._raise((1 - self._render_share) * (self._window + cost / self._window_cost) / whole)

    def begin_rendering(self, chunks: int) -> None:
        """Start turning the takes into sound, in so many chunks."""
        self._chunks = chunks
        self._raise(1 - self._render_share)

    def chunk_done(self) -> None:
        """Note that a chunk of sound is decoded. Chunks that are decoded before rendering, to score, do not count."""
        if self._chunks:
            self._rendered += 1
            self._raise(1 - self._render_share * (1 - self._rendered / (self._chunks + 1)))  # `finish` is the last part

    def finish(self) -> None:
        """Note that all is done."""
        self.fraction = 1.0

    def _raise(self, fraction: float) -> None:
        self.fraction = max(self.fraction, fraction)
