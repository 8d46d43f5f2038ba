#!/usr/bin/python3
"""Conversations as pairs for `tunelaw data`, in the words of a model's own chat template.

    python3 configs/chat_pairs.py FOLDER CHATS.jsonl... OUT.jsonl [--last]
    tunelaw data --tokenizer FOLDER --separator '' --pairs-train OUT.jsonl ...

FOLDER: a Hugging Face model, whose template is chat_template.jinja or chat_template in tokenizer_config.json. A line of CHATS is an
object with `messages` ([{"role": "user", "content": "..."}, ...]), or with `conversations` ([{"from": "human", "value": "..."}, ...]).
Each turn of the assistant becomes an example: source is all before it, as apply_chat_template of transformers writes it with
add_generation_prompt, target what the turn adds; --last takes the last turn of each conversation alone. `tools` and other members of
the object are handed to the template. The begin and end tokens that `tunelaw data` adds are not written twice: a begin at the head of
the source (where the tokenizer adds one) and an end at the tail of the target are left out. A conversation goes through the memory
alone; OUT is written whole or not at all. Needs jinja2 (Debian: python3-jinja2), which is also what transformers renders with.
"""
import argparse
import datetime
import json
import os
import re
import sys
import tempfile

import jinja2
import jinja2.ext
import jinja2.sandbox

ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant"}
MARKS = re.compile(r"{%(-?)\s*(end)?generation\s*(-?)%}")  # of transformers, around what the assistant says


class Failure(Exception):
    """A reason for a person, in one line."""


def read_object(path):
    try:
        with open(path, encoding="utf-8") as file:
            value = json.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise Failure(f"{path}: {error}") from error
    if not isinstance(value, dict):
        raise Failure(f"{path}: not an object")
    return value


def template_text(folder, config):
    path = os.path.join(folder, "chat_template.jinja")
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            return file.read()
    found = config.get("chat_template")
    if isinstance(found, list):  # several of them, by name
        found = {entry["name"]: entry["template"] for entry in found}.get("default")
    if not isinstance(found, str):
        raise Failure(f"{folder}: no chat template; looked for chat_template.jinja and chat_template in tokenizer_config.json")
    return found


def refuse(message):
    raise jinja2.TemplateError(message)


def to_json(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def compiled(text):
    """As transformers makes it (utils/chat_template_utils.py)."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                                               extensions=[jinja2.ext.loopcontrols])
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    plain = MARKS.sub(lambda m: f"{{%{m[1]} {'endif' if m[2] else 'if true'} {m[3]}%}}", text)
    try:
        return environment.from_string(plain)
    except jinja2.TemplateError as error:
        raise Failure(f"the chat template: {error}") from error


def special_tokens(config):
    tokens = {}
    for name, value in config.items():
        if name.endswith("_token"):
            value = value.get("content") if isinstance(value, dict) else value
            if isinstance(value, str):
                tokens[name] = value
    return tokens


def adds_begin(folder, config):
    """Whether `tunelaw data` puts a begin token before the source (docs/configuration.md)."""
    processor = read_object(os.path.join(folder, "tokenizer.json")).get("post_processor") or {}
    for step in processor.get("processors", [processor]):
        first = (step.get("single") or [{}])[0]
        if step.get("type") == "TemplateProcessing" and "SpecialToken" in first:
            return True
    return config.get("add_bos_token") is True


class Chat:
    def __init__(self, folder):
        config = read_object(os.path.join(folder, "tokenizer_config.json"))
        self.template = compiled(template_text(folder, config))
        self.tokens = special_tokens(config)
        self.begin = self.tokens.get("bos_token", "") if adds_begin(folder, config) else ""
        self.end = self.tokens.get("eos_token", "")

    def render(self, messages, others, generation):
        words = {"tools": None, "documents": None, **others, **self.tokens}
        return self.template.render(messages=messages, add_generation_prompt=generation, **words)

    def pair(self, messages, turn, others):
        before = self.render(messages[:turn], others, True)
        after = self.render(messages[:turn + 1], others, False)
        if not after.startswith(before):
            raise Failure(f"message {turn + 1}: with its answer the template writes other words before it; --last may do")
        target = after[len(before):]
        if self.end and target.rstrip().endswith(self.end):
            target = target.rstrip()[:-len(self.end)]
        return {"source": before[len(self.begin):] if before.startswith(self.begin) else before, "target": target}


def message_of(entry):
    if isinstance(entry, dict) and "from" in entry:
        entry = {"role": ROLES.get(entry["from"], entry["from"]), "content": entry.get("value")}
    if not isinstance(entry, dict) or not isinstance(entry.get("role"), str):
        raise Failure("a message without a role")
    return entry


def pairs_of(chat, line, last):
    try:
        row = json.loads(line)
    except ValueError as error:
        raise Failure(f"not JSON: {error}") from error
    found = row.get("messages", row.get("conversations")) if isinstance(row, dict) else None
    if not isinstance(found, list):
        raise Failure("no list `messages` or `conversations`")
    messages = [message_of(entry) for entry in found]
    others = {key: value for key, value in row.items() if key not in ("messages", "conversations")}
    turns = [i for i, message in enumerate(messages) if message["role"] == "assistant" and i > 0]
    if not turns:
        raise Failure("no answer of the assistant")
    try:
        return [chat.pair(messages, turn, others) for turn in (turns[-1:] if last else turns)]
    except (jinja2.TemplateError, TypeError) as error:
        raise Failure(f"the chat template: {error}") from error


def convert(chat, paths, last, out):
    chats = examples = 0
    for path in paths:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    pairs = pairs_of(chat, line, last)
                except Failure as error:
                    raise Failure(f"{path}:{number}: {error}") from error
                out.writelines(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs)
                chats, examples = chats + 1, examples + len(pairs)
    if not examples:
        raise Failure("no conversation in " + ", ".join(paths))
    return chats, examples


def write(chat, paths, last, path):
    """By way of a file beside it: what fails leaves nothing."""
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(os.path.abspath(path)), prefix=".chat_pairs-")
    try:
        with open(handle, "w", encoding="utf-8") as out:
            chats, examples = convert(chat, paths, last, out)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    print(f"{path}: {examples} examples of {chats} conversations")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="FOLDER")
    parser.add_argument("chats", metavar="CHATS.jsonl", nargs="+")
    parser.add_argument("out", metavar="OUT.jsonl")
    parser.add_argument("--last", action="store_true", help="the last turn of each conversation alone")
    options = parser.parse_args()
    try:
        write(Chat(options.folder), options.chats, options.last, options.out)
    except (Failure, OSError, UnicodeDecodeError) as error:
        sys.exit(f"chat_pairs: {error}")


if __name__ == "__main__":
    main()
