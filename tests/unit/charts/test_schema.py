"""The chart's schema knows the fields of the platform file that the operator reads."""

import json
from pathlib import Path
from typing import Any

from fulltape_operator.platform import Platform

SCHEMA = Path(__file__).parents[3] / "charts" / "fulltape" / "values.schema.json"


def test_the_schema_of_values_has_every_field_of_the_platform_file_and_no_other() -> None:
    chart: dict[str, Any] = json.loads(SCHEMA.read_text())["properties"]["platform"]["properties"]
    model = Platform.model_json_schema(by_alias=True)
    assert chart.keys() == model["properties"].keys()
    assert chart["images"]["properties"].keys() == model["$defs"]["Images"]["properties"].keys()
