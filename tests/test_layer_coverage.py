"""Does the benchmark of the layer map judge rightly? A few classes through the whole machine."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import layer_coverage  # noqa: E402
from zoo.building import Unbuildable, build  # noqa: E402
from zoo.evidence import Evidence  # noqa: E402
from zoo.naive_patterns import bert_style, numbered  # noqa: E402
from zoo.observation import observe  # noqa: E402
from zoo.oracle import Oracle  # noqa: E402
from zoo.results import chart, counts, share_right, summary, table  # noqa: E402
from zoo.shrinking import Shrinker  # noqa: E402
from zoo.targets import FAMILIES, Target, all_targets  # noqa: E402
from zoo.verdicts import METHODS, VERDICTS, Verdict, judge  # noqa: E402
from zoo.workers import judge_all  # noqa: E402

from hf_stabilizer.layers import LayerMap  # noqa: E402

TARGETS = {target.name: target for target in all_targets()}


def by_hand(model, depths):
    """Turns {beginning of names: depth} into a function on names; the first that fits counts."""

    def depth_of(name):
        return next(depth for start, depth in depths.items() if name.startswith(start))

    return depth_of


BERT = {
    "bert.embeddings": 0,
    "bert.encoder.layer.0.": 1,
    "bert.encoder.layer.1.": 2,
    "bert.encoder.layer.2.": 3,
    "": 4,
}


@pytest.fixture(scope="module")
def bert():
    model = build(TARGETS["BertForSequenceClassification"])
    return Oracle(model, observe(model))


@pytest.fixture(scope="module")
def t5():
    model = build(TARGETS["T5ForConditionalGeneration"])
    return Oracle(model, observe(model))


class TestTargets:
    def test_the_mappings_hold_more_than_a_thousand_classes_each_in_one_family(self):
        assert len(TARGETS) > 1000
        assert {target.family for target in TARGETS.values()} == set(FAMILIES)

    @pytest.mark.parametrize(
        ("name", "family"),
        [
            ("BertModel", "bare"),
            ("BertForSequenceClassification", "text"),
            ("ViTForImageClassification", "vision"),
            ("WhisperForConditionalGeneration", "audio"),
            ("LlavaForConditionalGeneration", "multimodal"),
        ],
    )
    def test_families(self, name, family):
        assert TARGETS[name].family == family


class TestShrinking:
    def test_ties_between_sizes_stay(self):
        small = Shrinker(64).shrink(
            {
                "hidden_size": 4096,
                "num_attention_heads": 32,
                "num_key_value_heads": 8,
                "head_dim": 128,
                "intermediate_size": 11008,
                "num_hidden_layers": 32,
                "vocab_size": 128000,
                "bos_token_id": 127999,
                "eos_token_id": 2,
            }
        )
        assert small["num_attention_heads"] * small["head_dim"] == small["hidden_size"] == 64
        assert small["num_attention_heads"] / small["num_key_value_heads"] == 4
        assert (small["intermediate_size"], small["num_hidden_layers"]) == (172, 3)
        assert small["bos_token_id"] < small["vocab_size"] == 160
        assert small["eos_token_id"] == 2

    def test_every_kind_of_layer_stays_and_lists_are_cut_at_the_same_layers(self):
        kinds = ["linear"] * 7 + ["full"] + ["linear"] * 8
        small = Shrinker(2).shrink(
            {"num_hidden_layers": 16, "layer_types": kinds, "ropes": [1.0] * 7 + [0.0] + [1.0] * 8}
        )
        pairs = list(zip(small["layer_types"], small["ropes"], strict=True))
        assert small["num_hidden_layers"] == len(pairs) == 3
        assert set(pairs) == {("linear", 1.0), ("full", 0.0)}

    def test_a_sub_configuration_shares_factor_and_token_ids(self):
        small = Shrinker(16).shrink(
            {
                "image_token_id": 32000,
                "vision_config": {"out_hidden_size": 768, "image_token_id": 32000},
                "text_config": {"hidden_size": 768},
            }
        )
        assert (
            small["vision_config"]["out_hidden_size"] == small["text_config"]["hidden_size"] == 48
        )
        assert small["image_token_id"] == small["vision_config"]["image_token_id"] == 100


class TestBuilding:
    def test_is_small_runs_and_is_the_same_every_time(self):
        one, two = (build(TARGETS["BertModel"]) for _ in range(2))
        assert sum(p.numel() for p in one.parameters()) < 100_000
        for name, parameter in one.named_parameters():
            assert torch.equal(parameter, two.get_parameter(name)), name

    def test_the_random_state_stays(self):
        torch.manual_seed(5)
        wanted = torch.rand(1)
        torch.manual_seed(5)
        build(TARGETS["BertModel"])
        assert torch.equal(torch.rand(1), wanted)

    def test_says_why_there_is_no_instance(self):
        with pytest.raises(Unbuildable, match="NoSuchModel"):
            build(Target("NoSuchModel", "bert", (), "text"))


class TestOracle:
    def test_agrees_with_depths_by_hand(self, bert):
        judgement = bert.judge(by_hand(bert.model, BERT), 3)
        assert judgement.wrong == []
        assert judgement.judged == judgement.total == len(list(bert.model.parameters()))
        assert judgement.blocks == 3

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            ({"bert.encoder.layer.1.": 1}, "depths \\[1, 1, 3\\]"),
            ({"bert.encoder.layer.1.output.dense.weight": 3}, "its block 2"),
            ({"bert.embeddings.LayerNorm": 1}, "has depth 1, not 0"),
            ({"bert.pooler": 3}, "has depth 3, not 4"),
            ({"classifier": 0}, "has depth 0, not 4"),
            ({"classifier": 9}, "has depth 9, N is 3"),
        ],
    )
    def test_sees_one_mistake(self, bert, change, complaint):
        wrong = bert.judge(
            by_hand(bert.model, change | {k: v for k, v in BERT.items() if k not in change}), 3
        ).wrong
        assert wrong
        assert any(re.search(complaint, line) for line in wrong), wrong

    def test_sees_a_wrong_number_of_layers(self, bert):
        assert any("N is 4" in w for w in bert.judge(by_hand(bert.model, BERT), 4).wrong)

    def test_a_decoder_continues_above_its_encoder(self, t5):
        chain = {
            "shared": 0,
            "encoder.block.0.layer.0.SelfAttention.relative": 0,
            "decoder.block.0.layer.0.SelfAttention.relative": 0,
            **{f"encoder.block.{k}.": k + 1 for k in range(3)},
            **{f"decoder.block.{k}.": k + 4 for k in range(3)},
            "encoder.final_layer_norm": 3,
            "": 7,
        }
        assert t5.judge(by_hand(t5.model, chain), 6).wrong == []
        twins = {**chain, **{f"decoder.block.{k}.": k + 1 for k in range(3)}, "": 4}
        assert any("is not above" in w for w in t5.judge(by_hand(t5.model, twins), 3).wrong)
        head = {**chain, "encoder.final_layer_norm": 7}
        assert any("final_layer_norm" in w for w in t5.judge(by_hand(t5.model, head), 6).wrong)

    @pytest.mark.parametrize(
        ("name", "stacks"),
        [
            ("SwinModel", {f"encoder.layers.{k}.blocks" for k in range(4)}),
            ("MobileBertModel", {"encoder.layer"}),
            ("MixtralModel", {"layers"}),
            ("CLIPModel", {"vision_model.encoder.layers", "text_model.encoder.layers"}),
        ],
    )
    def test_stages_give_way_and_experts_and_sub_layers_do_not_count(self, name, stacks):
        model = build(TARGETS[name])
        assert {stack.path for stack in Evidence(model, observe(model)).stacks} == stacks

    def test_imports_nothing_of_what_it_judges(self):
        for module in ("oracle", "evidence", "trace", "inputs", "input_values", "observation"):
            source = (BENCHMARKS / "zoo" / f"{module}.py").read_text(encoding="utf-8")
            assert "import hf_stabilizer" not in source
            assert "from hf_stabilizer" not in source

    def test_a_pass_leaves_no_hooks_and_no_marks(self, bert):
        assert all(not m._forward_hooks and not m._forward_pre_hooks for m in bert.model.modules())
        assert all("_passed" not in vars(p) for p in bert.model.parameters())


class TestNaivePatterns:
    def test_bert_by_hand(self, bert):
        names = [name for name, _ in bert.model.named_parameters()]
        for patterns in (bert_style, numbered):
            depths, top = patterns(names)
            assert top == 3
            assert depths == {name: by_hand(bert.model, BERT)(name) for name in names}

    def test_both_mistake_an_encoder_decoder(self, t5):
        names = [name for name, _ in t5.model.named_parameters()]
        for patterns in (bert_style, numbered):
            depths, top = patterns(names)
            assert t5.judge(depths.__getitem__, top).wrong


class TestVerdicts:
    def test_right(self):
        verdict = judge(TARGETS["BertForSequenceClassification"])
        assert (verdict.layer_map, verdict.reinitialize) == ("right", "right")
        assert (verdict.observed, verdict.num_layers, verdict.blocks) == ("whole", 3, 3)

    def test_a_map_that_is_off_by_one_is_wrong(self, monkeypatch):
        found = LayerMap.from_model

        def shifted(model, **options):
            layers = found(model, **options)
            depths = {n: max(0, d - 1) for n, d in layers._depths.items()}
            return type(layers)(**{**vars(layers), "_depths": depths})

        monkeypatch.setattr(LayerMap, "from_model", shifted)
        verdict = judge(TARGETS["BertModel"])
        assert verdict.layer_map == "wrong"
        assert verdict.reasons["layer_map"]

    def test_an_error_that_is_no_refusal_is_wrong(self, monkeypatch):
        def fails(model, **_):
            raise KeyError("oh")

        monkeypatch.setattr(LayerMap, "from_model", fails)
        verdict = judge(TARGETS["BertModel"])
        assert verdict.layer_map == verdict.reinitialize == "wrong"
        assert "KeyError" in verdict.reasons["layer_map"][0]

    def test_a_reinitialisation_that_goes_too_far_is_wrong(self, monkeypatch):
        def everything(model, *_, **__):
            for parameter in model.parameters():
                nn.init.normal_(parameter)

        monkeypatch.setattr("zoo.verdicts.reinitialize_layers", everything)
        verdict = judge(TARGETS["BertModel"])
        assert verdict.reinitialize == "wrong"
        assert any("was changed" in reason for reason in verdict.reasons["reinitialize"])

    def test_of_a_codec_only_totality_is_promised(self):
        assert judge(TARGETS["EncodecModel"]).promise == "total"


VERDICT = Verdict("A", "text", "a", layer_map="right", numbered="wrong", bert_style="wrong")


class TestResults:
    def test_shares_leave_out_what_could_not_be_judged(self):
        verdicts = [
            Verdict(name, "text", "a", **dict.fromkeys(METHODS, kind))
            for name, kind in zip(
                "ABCDE", ("right", "right", "wrong", "total", "unbuildable"), strict=True
            )
        ]
        counted = counts(verdicts, "layer_map", "text")
        assert counted == dict(zip(VERDICTS, (2, 0, 1, 1, 1), strict=True))
        assert share_right(counted) == pytest.approx(2 / 3)
        assert "66.7%" in table(verdicts)

    def test_a_known_disagreement_is_listed_apart(self):
        wrong = Verdict("A", "text", "a", layer_map="wrong", reasons={"layer_map": ["why"]})
        assert summary([wrong], {})["wrong"] == {"A": ["why"]}
        told = summary([wrong], {"A": "reason"})
        assert told["wrong"] == {}
        assert told["known_disagreements"] == {"A": "reason"}

    def test_the_chart_is_xml_with_a_bar_for_each_method(self):
        from xml.etree import ElementTree

        drawing = chart(summary([VERDICT], {})["counts"])
        root = ElementTree.fromstring(drawing)
        classes = {e.get("class") for e in root.iter() if e.get("class")}
        assert {"layer_map", "numbered", "bert_style"} <= classes
        assert "prefers-color-scheme: dark" in drawing


class TestCommandLine:
    def test_judges_chosen_classes_in_workers_and_writes_results(self, tmp_path, capsys):
        code = layer_coverage.main(
            ["--class", "BertModel", "GPT2Model", "--jobs", "1", "--output", str(tmp_path)]
        )
        assert code == 0
        told = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
        assert told["counts"]["layer_map"]["all"]["right"] == 2
        assert (tmp_path / "classes.csv").read_text(encoding="utf-8").count("\n") == 3
        assert "100.0%" in capsys.readouterr().out

    def test_an_unknown_class_is_named(self):
        with pytest.raises(SystemExit, match="BretModel"):
            layer_coverage.main(["--class", "BretModel"])

    def test_a_class_that_takes_too_long_does_not_stop_the_rest(self):
        (verdict,) = judge_all([TARGETS["BertModel"]], jobs=1, limit=0.01)
        assert verdict.layer_map == "wrong"
        assert "no verdict within" in verdict.reasons["layer_map"][0]
