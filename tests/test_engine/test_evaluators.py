"""One metric or several in a config."""

from mmengine.config import Config

from mmseg_more.engine.evaluators import evaluator_list


def test_one_several_or_none():
    metric = dict(type='IoUMetric')
    assert evaluator_list(metric) == [metric]
    assert evaluator_list((metric, metric)) == [metric, metric]
    assert evaluator_list(None) == evaluator_list([]) == evaluator_list({}) == []


def test_they_can_be_changed_in_place():
    cfg = Config(dict(test_evaluator=[dict(type='IoUMetric')]))
    evaluator_list(cfg.test_evaluator)[0]['output_dir'] = 'out'
    assert cfg.test_evaluator[0].output_dir == 'out'
