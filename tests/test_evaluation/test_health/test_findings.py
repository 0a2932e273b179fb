import json

import pytest
import torch

from mmseg_more.evaluation.health.figures import HealthFigures
from mmseg_more.evaluation.health.findings import HealthMonitor, HealthRules

NONE = torch.zeros(4, dtype=torch.float64)
RULES = HealthRules(patience=2)
HEALTHY = ([0.2, 0.15, 0.1, 0.2], [0.1, 0.1, 0.0, 0.1])
FLOOD = ([0.8, 0.15, 0.1, 0.2], [0.9, 0.1, 0.0, 0.1])


def figures(coverage, border, sure=None, images=(9, 9, 9, 9), **followed):
    """``followed``: what LAM and segmentation show where it is not what the CAM does."""
    values = dict(
        images=images,
        sure=sure or coverage,
        coverage=coverage,
        border=border,
        lam=followed.get('lam', coverage),
        lam_border=followed.get('lam_border', border),
        seg=followed.get('seg', coverage),
        seg_border=followed.get('seg_border', border),
    )
    return HealthFigures(
        **{name: torch.tensor(v, dtype=torch.float64) for name, v in values.items()},
        **dict.fromkeys(('missing', 'false_alarm', 'recognised'), NONE),
        agreement={},
        consistency={},
        ignored=0.0,
        entropy=0.0,
    )


def follow(*checks, rules=RULES):
    """(check, class, kind, recovered) of all findings."""
    monitor = HealthMonitor(4, rules)
    return [
        (i, finding.class_index, finding.kind, finding.recovered)
        for i, check in enumerate(checks)
        for finding in monitor.update(10 * i, figures(*check))
    ]


def test_a_flood_is_said_once_and_its_end_too():
    checks = [HEALTHY, FLOOD, FLOOD, FLOOD, FLOOD, HEALTHY, HEALTHY, HEALTHY]
    assert follow(*checks) == [(2, 0, 'floods', False), (6, 0, 'floods', True)]


def test_a_short_flood_is_no_flood():
    assert follow(HEALTHY, FLOOD, HEALTHY, FLOOD, HEALTHY) == []


def test_a_short_pause_is_no_end():
    assert follow(FLOOD, FLOOD, HEALTHY, FLOOD) == [(1, 0, 'floods', False)]


def test_a_flood_from_the_start():
    assert follow(FLOOD, FLOOD) == [(1, 0, 'floods', False)]


def test_maps_that_nothing_learns_from_do_no_harm():
    monitor = HealthMonitor(4, RULES)
    for i in range(3):
        assert not monitor.update(i, figures(*FLOOD), in_use=False)
    assert not monitor.update(3, figures(*FLOOD))
    (finding,) = monitor.update(4, figures(*FLOOD))
    assert finding.since == 3


def test_objects_that_fill_their_images_are_no_flood():
    """All classes alike: large objects, not a class that takes the background along."""
    large = ([0.8, 0.7, 0.6, 0.7], [0.9, 0.8, 0.6, 0.8])
    assert follow(large, large, large) == []


LAM_IS_WELL = dict(lam=HEALTHY[0], lam_border=HEALTHY[1])
SEG_IS_WELL = dict(seg=HEALTHY[0], seg_border=HEALTHY[1])


@pytest.mark.parametrize('others', ['coverage', 'border'])
def test_a_cam_alone_is_no_flood(others):
    well = {**LAM_IS_WELL, **SEG_IS_WELL}
    names = ('lam', 'seg') if others == 'coverage' else ('lam_border', 'seg_border')
    monitor = HealthMonitor(4, RULES)
    for i in range(4):
        well_there = {name: well[name] for name in names}
        assert not monitor.update(i, figures(*FLOOD, **well_there))


@pytest.mark.parametrize('well', [LAM_IS_WELL, SEG_IS_WELL])
def test_a_cam_that_another_map_follows_is_a_flood(well):
    monitor = HealthMonitor(4, RULES)
    monitor.update(0, figures(*FLOOD, **well))
    assert len(monitor.update(1, figures(*FLOOD, **well))) == 1


def test_a_segmentation_that_has_not_learnt_says_nothing():
    monitor = HealthMonitor(4, RULES)
    for i in range(3):
        assert not monitor.update(i, figures(*FLOOD, **LAM_IS_WELL), seg_in_use=False)
    monitor.update(3, figures(*FLOOD, **SEG_IS_WELL), seg_in_use=False)
    assert len(monitor.update(4, figures(*FLOOD, **SEG_IS_WELL), seg_in_use=False)) == 1


def test_several_floods_at_once():
    """Most classes flood: the others' lower quartile is that of a class that does not."""
    most = ([0.8, 0.5, 0.1, 0.8], [0.9, 0.45, 0.0, 0.9])
    found = follow(most, most)
    assert found == [(1, index, 'floods', False) for index in (0, 3)]


def test_a_large_class_away_from_the_border_is_no_flood():
    assert follow(*3 * [(FLOOD[0], HEALTHY[1])]) == []


def test_the_weakest_of_all_dies():
    dead = ([0.2, 0.15, 0.005, 0.2], HEALTHY[1])
    assert follow(dead, dead, dead) == [(1, 2, 'dies', False)]


def test_a_class_dies_that_was_well_before():
    """Others are small too, but it was not."""
    small = [0.02, 0.02, 0.02, 0.02]
    before, after = [0.5, 0.02, 0.02, 0.02], small
    calm = [0.1] * 4
    checks = [(before, calm)] * 5 + [(after, calm)] * 3 + [(before, calm)] * 2
    assert follow(*checks) == [(6, 0, 'dies', False), (9, 0, 'dies', True)]


def test_classes_in_few_images_are_left_alone():
    few = (*FLOOD, None, [3, 9, 9, 9])
    assert follow(few, few, few) == []
    # nor are the others compared with them
    rare = ([0.8, 0.7, 0.7, 0.2], [0.9, 0.9, 0.9, 0.1], None, [9, 3, 3, 9])
    assert follow(rare, rare) == [(1, 0, 'floods', False)]


def test_a_class_is_not_one_of_the_others():
    """The median of the other three is .2, with the class itself it would be .15."""
    weak = ([0.016, 0.1, 0.2, 0.2], HEALTHY[1])
    assert follow(weak, weak) == [(1, 0, 'dies', False)]


def test_undefined_figures_are_left_alone():
    nan = float('nan')
    empty = ([nan, 0.2, nan, nan], [nan, 0.9, nan, nan], None, [0, 9, 0, 0])
    assert follow(empty, empty, empty) == []


def test_what_a_finding_says():
    monitor = HealthMonitor(4, RULES)
    for i, check in enumerate((HEALTHY, FLOOD)):
        assert not monitor.update(100 * i, figures(*check))
    (finding,) = monitor.update(200, figures(*FLOOD))
    assert finding.since == 100
    assert finding.seen == dict(coverage=0.8, sure=0.8, border=0.9, lam=0.8, seg=0.8)
    assert (finding.before, finding.before_iteration) == (0.2, 0)


def test_a_second_look_at_one_iteration_replaces_the_first():
    monitor = HealthMonitor(4, RULES)
    for _ in range(3):
        assert not monitor.update(100, figures(*FLOOD))
    assert len(monitor.history) == 1


def test_the_state_survives():
    checks = [HEALTHY, FLOOD, FLOOD, FLOOD, HEALTHY, HEALTHY]
    whole = HealthMonitor(4, RULES)
    expected = [whole.update(i, figures(*check)) for i, check in enumerate(checks)]
    monitor, found = HealthMonitor(4, RULES), []
    for i, check in enumerate(checks):
        state = json.loads(json.dumps(monitor.state_dict()))
        monitor = HealthMonitor(4, RULES)
        monitor.load_state_dict(state)
        found.append(monitor.update(i, figures(*check)))
    assert found == expected
    assert sum(map(len, found)) == 2
    with pytest.raises(ValueError, match='4 classes, there are 3'):
        HealthMonitor(3).load_state_dict(monitor.state_dict())


def test_memory_is_bounded():
    monitor = HealthMonitor(4, HealthRules(patience=2, memory=5))
    for i in range(20):
        monitor.update(i, figures(*HEALTHY))
    assert [entry['iteration'] for entry in monitor.history] == list(range(15, 20))


@pytest.mark.parametrize(
    'rule, value',
    [
        ('patience', 0),
        ('min_images', 0),
        ('flood_border', 0),
        ('death_ratio', 1),
        ('flood_ratio', 0.5),
        ('memory', 3),
    ],
)
def test_rules_are_checked(rule, value):
    with pytest.raises(ValueError, match=rule):
        HealthMonitor(4, HealthRules()._replace(**{rule: value}))
