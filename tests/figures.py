"""Reading what `/metrics` says."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]
IN_PARTS = ("_bucket", "_sum", "_count", "_total", "_created")  # what a family's samples may be called besides


@dataclass(frozen=True)
class Scrape:
    """One answer: its samples by name and labels."""

    text: str

    @property
    def samples(self) -> dict[tuple[str, Labels], float]:
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(self.text)
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        """One sample; 0 where there is none yet."""
        return self.samples.get((name, frozenset(labels.items())), 0.0)

    def total(self, name: str, **labels: str) -> float:
        """The sum of all samples that have these labels, whatever others they have."""
        wanted = set(labels.items())
        return sum(value for (found, given), value in self.samples.items() if found == name and wanted <= given)

    def names(self) -> dict[str, str]:
        """The service's own metrics as its page names them, and what kind each is."""
        families = [f for f in text_string_to_metric_families(self.text) if f.name.startswith("latchkey_")]
        return {f.name + ("_total" if f.type == "counter" else ""): f.type for f in families}

    def labels(self, metric: str) -> set[str]:
        """The labels of a metric, without those that a histogram's parts have."""
        found = (set(dict(given)) for name, given in self.samples if name.removesuffix("_bucket") == metric)
        return set().union(*found) - {"le"}
