"""What `/metrics` says, as a test reads it."""

from __future__ import annotations

from collections.abc import Iterator

from admin_client import READ, Admin
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample


def scrape(admin: Admin, token: str = READ) -> str:
    """The page as it is."""
    answer = admin.http.get("/metrics", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200, answer.text
    return answer.text


class Page:
    """One scrape's samples."""

    def __init__(self, text: str) -> None:
        self.families = list(text_string_to_metric_families(text))
        self.samples: list[Sample] = [sample for family in self.families for sample in family.samples]

    @property
    def names(self) -> set[str]:
        """Of all samples."""
        return {sample.name for sample in self.samples}

    def find(self, name: str, **labels: str) -> Iterator[Sample]:
        """The samples of a metric (`sessionsweep_` is left out) that have these labels."""
        for sample in self.samples:
            if sample.name == f"sessionsweep_{name}" and labels.items() <= sample.labels.items():
                yield sample

    def get(self, name: str, **labels: str) -> float:
        """The value of the one sample that has these labels."""
        (found,) = self.find(name, **labels)
        return found.value

    def has(self, name: str, **labels: str) -> bool:
        """Whether there is any."""
        return any(self.find(name, **labels))


def page(admin: Admin) -> Page:
    """A scrape of now."""
    return Page(scrape(admin))
