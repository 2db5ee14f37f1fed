"""How large the letters of a figure are where it is printed."""

from matplotlib.figure import Figure
from matplotlib.text import Text

PAGE = 7.0  # Inches.


def smallest_text(figure: Figure) -> float:
    """Points of the smallest text once the figure is no wider than a page."""
    shrunk = min(1.0, PAGE / figure.get_figwidth())
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
    return shrunk * min(text.get_fontsize() for text in texts)
