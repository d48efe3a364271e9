import dataclasses

import pytest

from kdas_tf import genotype
from kdas_tf.data.embedded.synthetic import RenderedPeople
from kdas_tf.errors import UserError
from kdas_tf.schedules import LinearTemperature
from kdas_tf.stages import data, search
from tests.stages import small


@pytest.mark.slow
def test_a_search_at_temperature_0_reads_no_teacher_and_needs_none(tmp_path):
    people = RenderedPeople(train_identities=16, test_identities=3, image_size=(32, 16), images_per_camera=2)
    data.run(small.job(tmp_path, "data"), people=people)
    labels, fitting = LinearTemperature(start=0.0), dataclasses.replace(small.SGD, epochs=1)
    assert search.reads(tmp_path, {"temperature": labels, "fitting": fitting}) == ("data",)
    assert search.reads(tmp_path, {"temperature": LinearTemperature(), "fitting": fitting}) == ("data", "teacher")
    with pytest.raises(UserError, match="teacher"):
        small.run_search(tmp_path, epochs=1)
    small.run_search(tmp_path, epochs=1, temperature=labels)
    assert len(genotype.load(tmp_path / "search" / "genotype.json").normal) == 8
    (line,) = small.lines(tmp_path, "search")
    assert line["temperature"] == 0.0
