"""The alert rules: each fires for what it is about, in plain words, and clears; Prometheus says so itself."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"
RUNBOOK = "https://github.com/sessionsweep/sessionsweep/blob/main/docs/operations.md#"
PROMTOOL = shutil.which("promtool")
AT = {"instance": "admin:5005", "job": "sessionsweep"}
ON_A = {"volume": "a", "volume_id": "k10b39f5a78zxzce"}
THERE = "volume a (k10b39f5a78zxzce)"

#: On a developer's machine without it; CI must try the rules.
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None and not os.environ.get("CI"), reason="no promtool here: apt-get install prometheus"
)


@dataclass
class Case:
    """One alert: the series that make it fire and clear. `bad`, `good`: the metric's values; `beside`: of others."""

    alert: str
    metric: str
    good: str
    bad: str
    summary: str
    labels: dict[str, str] = field(default_factory=dict)
    beside: dict[str, str] = field(default_factory=dict)
    told: dict[str, str] | None = None  # the alert's labels, where they aren't the metric's
    summed: bool = False  # over processes: of no instance

    @property
    def series(self) -> list[dict[str, str]]:
        """Good for 5 minutes, bad for 20, good again."""
        values = f"{self.good}x4 {self.bad}x20 {self.good}x60"
        others = [{"series": _series(name), "values": f"{value}x90"} for name, value in self.beside.items()]
        return [{"series": _series(self.metric, self.labels), "values": values}, *others]


def _series(metric: str, labels: dict[str, str] | None = None) -> str:
    name, _, inner = metric.partition("{")
    pairs = [f'{key}="{value}"' for key, value in {**AT, **(labels or {})}.items()]
    return name + "{" + ",".join([*pairs, *filter(None, [inner.rstrip("}")])]) + "}"


MINUTE = {"cleanup_interval_seconds": "60"}
CASES = [
    Case("SessionsweepUnseen", "up", "1", "0",
         "Nobody watches the sessions: Prometheus doesn't reach the admin side's /metrics, or its token is wrong."),
    Case("SessionsweepStoreDown", "store_up", "1", "0",
         "The store doesn't answer: no session can be opened, nothing is cleaned."),
    Case("SessionsweepUnreadable", "scrape_complete", "1", "0",
         "A record in the store can't be read, so what volumes owe isn't told; the admin side's log names it."),
    Case("SessionsweepBrokerDown", "broker_up", "1", "0",
         "The broker doesn't answer. Workers go on by themselves; orders reach nobody."),
    Case("SessionsweepStoreEvicts", "store_evicts_keys", "0", "1",
         "The store's maxmemory-policy lets it drop sessions, and what must be cleaned, without a word. Set "
         "noeviction."),
    Case("SessionsweepStoreCantWrite", "store_write_failed", "0", "1",
         "The store's server can't write its aof to its disk: it refuses writes, so no session is opened, ended or "
         "cleaned.", {"file": "aof"}),
    Case("SessionsweepStoreNearlyFull", "store_memory_used_bytes", "900000000", "995000000",
         "The store uses 948.9MiB, over 90 % of its maxmemory: soon new sessions and files are refused.",
         beside={"store_memory_limit_bytes": "1073741824"}),
    Case("SessionsweepManySessions", "sessions_active", "1000", "1001", "1.001k sessions are active, more than 1,000."),
    Case("SessionsweepSessionsNearLimit", "sessions_active", "80", "81",
         "81 sessions are active, over 80 % of MAX_SESSIONS: at the limit visitors are refused.",
         beside={"limit_sessions": "100"}),
    Case("SessionsweepResourcesNearLimit", "resources", "800", "801",
         "On average, sessions own over 80 % of the resources that MAX_RESOURCES_PER_SESSION allows.",
         {"state": "active"}, {"limit_resources_per_session": "100", "sessions_active": "10"}, told={}),
    Case("SessionsweepBytesNearLimit", "resource_bytes", "800", "801",
         "On average, sessions own over 80 % of the bytes that MAX_BYTES_PER_SESSION allows.",
         {"state": "active"}, {"limit_bytes_per_session": "100", "sessions_active": "10"}, told={}),
    Case("SessionsweepEvictions", "resources_evicted_total", "5", "0+1",
         "Sessions reached their limits: in 15 minutes about 15 of their least used files were given up."),
    Case("SessionsweepCleanupFails", "volume_failing_resources", "0", "3",
         f"3 files of ended sessions on {THERE} can't be deleted; they are tried again.", ON_A),
    Case("SessionsweepDeadLetters", "resources", "0", "2",
         "2 resources failed so often that nobody tries them any more.", {"state": "dead"}),
    Case("SessionsweepPassFails", "pass_state", "0", "1",
         "The last run of sweep_orphans on volume a failed; see the log of the worker that ran it.",
         {"task": "sweep_orphans", "state": "failed", **ON_A}),
    Case("SessionsweepPassFails", "pass_state", "0", "1",
         "The last run of sweep_idle failed; see the log of the worker that ran it.",
         {"task": "sweep_idle", "state": "failed"}),
    Case("SessionsweepOrphans", "orphans", "0", "7",
         f"The last look over {THERE} found 7 files without an owner.", {"kind": "candidates", **ON_A}),
    Case("SessionsweepOrphans", "orphans", "0", "7",
         f"The last look over {THERE} found 7 records without their files.", {"kind": "missing", **ON_A}),
    Case("SessionsweepSweepLate", "sweep_lag_seconds", "180", "181", "Ended sessions aren't swept: 3m 1s late.",
         beside=MINUTE),
    Case("SessionsweepSweepLate", "last_sweep_age_seconds", "120", "121", "Ended sessions aren't swept: 2m 1s late.",
         beside=MINUTE),
    Case("SessionsweepBeatMissing", "alarms", "0", "1",
         "No Celery beat runs. Workers sweep by themselves, but later.", {"alarm": "beat"}),
    Case("SessionsweepDiskHangs", "alarms", "0", "2",
         "2 of the nodes' disks don't answer: nothing is deleted on them. Which: sessionsweep doctor.",
         {"alarm": "disk"}),
    Case("SessionsweepMarksAhead", "alarms", "0", "1",
         "The store says that a pass ran at a time to come: its clock was set back.", {"alarm": "marks"}),
    Case("SessionsweepNoWorker", "node_up", "1", "0",
         "No node's worker is alive: nothing that ended sessions left is deleted anywhere.",
         {"node": "a"}, {"store_up": "1"}, told={}),
    Case("SessionsweepNoWorker", "node_up", "1", "_",  # no node was ever told of
         "No node's worker is alive: nothing that ended sessions left is deleted anywhere.",
         {"node": "a"}, {"store_up": "1"}, told={}),
    Case("SessionsweepWorkerSilent", "node_up", "1", "0",
         "The worker of node a is silent: what lies on volumes that only it mounts isn't deleted. (After a day it "
         "counts as taken away.)", {"node": "a"}, {'node_heartbeat_age_seconds{node="a"}': "40"}),
    Case("SessionsweepVolumeUnattended", "volume_owing_sessions", "0", "12",
         f"No live worker mounts {THERE}, where 12 ended sessions owe files.", ON_A,
         {'volume_workers{volume="a",volume_id="k10b39f5a78zxzce"}': "0"}),
    Case("SessionsweepVolumeLate", "volume_due_seconds", "180", "240",
         f"Files of ended sessions on {THERE} have been due for 4m 0s, and nobody deletes them.", ON_A, MINUTE),
    Case("SessionsweepStreamsLate", "stream_due_seconds", "180", "240",
         "Streams of ended sessions have been open for 4m 0s: a web process hangs.", beside=MINUTE),
    Case("SessionsweepQueueLong", "queue_messages", "1000", "1001",
         "1.001k messages wait in sessionsweep: no worker takes them, or too few.", {"queue": "sessionsweep"}),
    Case("SessionsweepHeld", "holds", "0", "1",
         "Destruction is stopped on volume a of node n (mount: marker-missing), because the state can't be trusted. "
         "What to do: sessionsweep holds list.",
         {"kind": "mount", "reason": "marker-missing", "node": "n", "volume": "a"}),
    Case("SessionsweepHeld", "holds", "0", "1",
         "Destruction is stopped (all: rolled-back), because the state can't be trusted. What to do: sessionsweep "
         "holds list.", {"kind": "all", "reason": "rolled-back"}),
    Case("SessionsweepIdleHeld", "holds", "0", "1",
         "Idle sessions aren't ended for a while (restarted); it ends by itself.",
         {"kind": "idle", "reason": "restarted"}),
    Case("SessionsweepDiskNearlyFull", "disk_free_bytes", "1000000000", "500000000",
         "The disk of volume a on node n has only 476.8MiB left, less than 10 %.", {"node": "n", **ON_A},
         {'disk_used_bytes{node="n",volume="a",volume_id="k10b39f5a78zxzce"}': "9000000000"}),
    Case("SessionsweepVolumeUnwritable", "volume_unwritable", "0", "1",
         "Node n can't write to volume a: perhaps files can be neither kept nor deleted there.", {"node": "n", **ON_A}),
    Case("SessionsweepVolumeUnwritable", "volume_unwritable", "_", "1",  # not told of while its disk is full
         "Node n can't write to volume a: perhaps files can be neither kept nor deleted there.", {"node": "n", **ON_A}),
    Case("SessionsweepBooksDifference", "books_difference", "0", "2",
         "The books don't balance: 2 resources are unaccounted for. Please report it."),
    Case("SessionsweepOpensFail", 'operations_total{operation="open",outcome="store_error"}', "5", "0+1",
         "50% of requests with a session fail: web processes don't reach the store.",
         beside={'operations_total{operation="open",outcome="ok"}': "0+1"}, summed=True),
    Case("SessionsweepOpensSlow", 'operation_seconds_bucket{operation="open",le="0.1"}', "0+10", "40+0",
         "One in twenty requests waits over 480ms for its session: the store, or the way to it, is slow.",
         beside={'operation_seconds_bucket{operation="open",le="0.5"}': "0+10",
                 'operation_seconds_bucket{operation="open",le="+Inf"}': "0+10"}, summed=True),
    Case("SessionsweepTokensInvalid", 'operations_total{operation="open",outcome="invalid"}', "0", "0+300",
         "5 requests a second bring a token that opens nothing: somebody guesses, or nodes sign with different keys.",
         summed=True),
    Case("SessionsweepLimitsHit", "limits_hit_total", "5", "0+2",
         "MAX_SESSIONS refused about 30 requests in 15 minutes.", {"limit": "MAX_SESSIONS"}, summed=True),
]  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """What a test must know of a rule."""

    name: str
    severity: str
    runbook: str


def rules() -> list[Rule]:
    """Of the file."""
    found = re.findall(
        r"- alert: (\w+)\n.*?labels: \{severity: (\w+)\}.*?summary: \S.*?runbook: (\S+)", RULES.read_text(), re.DOTALL
    )
    return [Rule(*one) for one in found]


def test_each_rule_has_a_case_and_a_runbook_that_exists() -> None:
    known = rules()
    assert len(known) == RULES.read_text().count("- alert: ") == len({rule.name for rule in known})
    assert {rule.name for rule in known} == {case.alert for case in CASES}
    assert {rule.severity for rule in known} == {"critical", "warning", "info"}
    page = (ROOT / "docs" / "operations.md").read_text()
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert sorted({rule.runbook for rule in known} - {RUNBOOK + anchor for anchor in anchors}) == []


def promtool(*words: str) -> str:
    assert PROMTOOL is not None, "CI must try the rules: apt-get install prometheus"
    done = subprocess.run([PROMTOOL, *words], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@needs_promtool
def test_prometheus_takes_rules_and_configuration() -> None:
    assert f"{len(rules())} rules found" in promtool("check", "rules", str(RULES))
    promtool("check", "config", "--syntax-only", str(RULES.with_name("prometheus.yml")))


@needs_promtool
def test_each_rule_fires_and_clears(tmp_path: Path) -> None:
    known = {rule.name: rule for rule in rules()}
    tests = []
    for case in CASES:
        rule = known[case.alert]
        told = case.labels if case.told is None else case.told
        fired = {
            "exp_labels": {**({} if case.summed else AT), **told, "severity": rule.severity},
            "exp_annotations": {"summary": case.summary, "runbook": rule.runbook},
        }
        looks = [
            {"eval_time": at, "alertname": case.alert, "exp_alerts": alerts}
            for at, alerts in (("4m", []), ("24m", [fired]), ("60m", []))
        ]
        tests.append({"interval": "1m", "input_series": _prefixed(case.series), "alert_rule_test": looks})
    gone = {
        "exp_labels": {"job": "sessionsweep", "severity": "critical"},
        "exp_annotations": {"summary": CASES[0].summary, "runbook": known["SessionsweepUnseen"].runbook},
    }  # no target at all
    unseen = {"eval_time": "5m", "alertname": "SessionsweepUnseen", "exp_alerts": [gone]}
    tests.append({"interval": "1m", "alert_rule_test": [unseen]})
    away = [{"series": "sessionsweep_store_up" + _series(""), "values": "0x20"}]  # that is another alert's
    none = {"eval_time": "15m", "alertname": "SessionsweepNoWorker", "exp_alerts": []}
    tests.append({"interval": "1m", "input_series": away, "alert_rule_test": [none]})
    page = tmp_path / "tests.yml"  # JSON is YAML
    page.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    promtool("test", "rules", str(page))


def _prefixed(series: list[dict[str, str]]) -> list[dict[str, str]]:
    return [
        {**one, "series": one["series"] if one["series"].startswith("up{") else f"sessionsweep_{one['series']}"}
        for one in series
    ]
