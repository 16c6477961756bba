"""Every chart that a set of results has data for."""

from __future__ import annotations

from archsim.sweeps.charts import Chart
from archsim.sweeps.results import Results
from archsim.sweeps.stack_charts import energy_charts, roofline_charts, time_charts
from archsim.sweeps.trade_charts import axis_charts, front_charts, sensitivity_charts

MAKERS = (
    front_charts, axis_charts, time_charts, energy_charts, roofline_charts, sensitivity_charts,
)  # fmt: skip


def charts(results: Results) -> list[Chart]:
    """Fronts, lines, stacks, roofline and sensitivity, as far as the results have them."""
    if not results.good:
        return []
    return [chart for make in MAKERS for chart in make(results)]
