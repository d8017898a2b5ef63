import re
from pathlib import Path

import torch

PAGE = Path(__file__).parents[3] / "docs" / "effective_information_weights.md"


def test_the_code_of_the_page_runs():
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    namespace: dict = {}
    for block in blocks:
        exec(compile(block, PAGE.name, "exec"), namespace)
    assert len(blocks) >= 4
    assert torch.equal(namespace["ei"], namespace["result"].ei)
