"""Run by another interpreter path than the tests: TRL's trainers on the same files; prints what they log, as JSON."""

import json
import sys

import torch
from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

KINDS = {"sft": (SFTConfig, SFTTrainer), "dpo": (DPOConfig, DPOTrainer)}
folder, out, cases = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
told = {}
for name, (kind, data, options) in cases.items():
    config, trainer = KINDS[kind]
    settings = config(
        output_dir=out, logging_steps=1, lr_scheduler_type="constant", report_to="none", save_strategy="no",
        use_cpu=True, bf16=False, gradient_checkpointing=False, disable_tqdm=True, seed=0, **options,
    )  # fmt: skip
    run = trainer(
        model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        args=settings,
        train_dataset=load_dataset("json", data_files=data, split="train"),
        processing_class=AutoTokenizer.from_pretrained(folder),
    )
    run.train()
    told[name] = [row for row in run.state.log_history if "loss" in row]
print("told:", json.dumps(told))
