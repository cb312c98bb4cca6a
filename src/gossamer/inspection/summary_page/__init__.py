"""A summary as a page of HTML, alone or beside that of another model."""

from gossamer.inspection.summary_page.page import summary_page

__all__ = ["summary_page"]
