#!/usr/bin/python3
"""Conversations as pairs for `tunelaw data`, in the words of a model's own chat template.

    python3 configs/chat_pairs.py FOLDER CHATS.jsonl... OUT.jsonl [--last]
    tunelaw data --tokenizer FOLDER --as-written --pairs-train OUT.jsonl ...

FOLDER: a Hugging Face model, whose template is chat_template.jinja or chat_template in tokenizer_config.json. A line of CHATS is an
object with `messages` ([{"role": "user", "content": "..."}, ...]), or with `conversations` ([{"from": "human", "value": "..."}, ...],
and perhaps `system`, which becomes the first message). Each turn of the assistant becomes an example: source is all before it, as
apply_chat_template of transformers writes it with add_generation_prompt, target what the turn adds, begin and end tokens as the
template writes them; --last takes the last turn of each conversation alone. `tools`, `documents` and other members of the object are
handed to the template, which reads the same time for all of them. A conversation goes through the memory alone; OUT is written whole
or not at all. Needs jinja2 (Debian: python3-jinja2), which is also what transformers renders with.
"""
import argparse
import datetime
import json
import os
import re
import signal
import sys
import tempfile

import jinja2
import jinja2.defaults
import jinja2.ext
import jinja2.sandbox

ROLES = {"human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant", "bard": "assistant",
         "assistant": "assistant", "model": "assistant", "system": "system", "tool": "tool"}
OWN = {"messages", "conversations", "add_generation_prompt", "raise_exception", "strftime_now"}  # no variables of a line
MARKS = re.compile(r"{%(-?)\s*(end)?generation\s*(-?)%}")  # of transformers, around what the assistant says


class Failure(Exception):
    """A reason for a person, in one line."""


def reason(error):
    return " ".join(str(error).split()) or type(error).__name__


def read_text(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise Failure(f"{path}: {reason(error)}") from error


def read_object(path):
    text = read_text(path)
    try:
        value = {} if text is None else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Failure(f"{path}: {reason(error)}") from error
    if not isinstance(value, dict):
        raise Failure(f"{path}: not an object")
    return value


def template_text(folder, config):
    text = read_text(os.path.join(folder, "chat_template.jinja"))
    if text is not None:
        return text
    found = config.get("chat_template")
    if isinstance(found, list):  # several of them, by name
        found = next((entry.get("template") for entry in found if isinstance(entry, dict) and entry.get("name") == "default"), None)
    if not isinstance(found, str):
        raise Failure(f"{folder}: no chat template; looked for chat_template.jinja and chat_template in tokenizer_config.json")
    return found


def refuse(message):
    raise jinja2.TemplateError(message)


def to_json(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def compiled(text):
    """As transformers makes it (utils/chat_template_utils.py)."""
    now = datetime.datetime.now()
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                                               extensions=[jinja2.ext.loopcontrols])
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = now.strftime
    plain = MARKS.sub(lambda m: f"{{%{m[1]} {'endif' if m[2] else 'if true'} {m[3]}%}}", text)
    try:
        return environment.from_string(plain)
    except Exception as error:  # a template is a program
        raise Failure(f"the chat template: {reason(error)}") from error


def special_tokens(config):
    tokens = {}
    for name, value in config.items():
        if name.endswith("_token"):
            value = value.get("content") if isinstance(value, dict) else value
            if isinstance(value, str):
                tokens[name] = value
    return tokens


class Chat:
    def __init__(self, folder):
        config = read_object(os.path.join(folder, "tokenizer_config.json"))
        self.template = compiled(template_text(folder, config))
        self.tokens = special_tokens(config)

    def render(self, messages, others, generation):
        words = {"tools": None, "documents": None, **others, **self.tokens, "messages": messages, "add_generation_prompt": generation}
        try:
            return self.template.render(words)
        except Exception as error:  # a template is a program
            raise Failure(f"the chat template: {reason(error)}") from error

    def pair(self, messages, turn, number, others, last):
        if not (messages[turn].get("content") or "").strip() and not messages[turn].get("tool_calls"):
            raise Failure(f"message {number}: the answer is empty")
        before = self.render(messages[:turn], others, True)
        after = self.render(messages[:turn + 1], others, False)
        if not after.startswith(before):
            hint = "; --last may do" if not last and turn + 1 < len(messages) else ""
            raise Failure(f"message {number}: with its answer the template writes other words before it{hint}")
        if "\0" in after:  # of tools, say
            raise Failure(f"message {number}: U+0000 in what the template writes")
        return {"source": before, "target": after[len(before):]}


def message_of(entry, number):
    if not isinstance(entry, dict):
        raise Failure(f"message {number}: not an object")
    if "from" in entry:
        role = ROLES.get(entry["from"]) if isinstance(entry["from"], str) else None
        if not role:
            raise Failure(f"message {number}: from {to_json(entry['from'])}; allowed: {', '.join(ROLES)}")
        entry = {"role": role, "content": entry.get("value")}
    if not isinstance(entry.get("role"), str):
        raise Failure(f"message {number}: without a role")
    content = entry.get("content")
    if content is None and entry.get("tool_calls"):
        return entry
    if not isinstance(content, str) or "\0" in content:
        raise Failure(f"message {number}: its content is no text (without U+0000); allowed: a text, or none beside tool_calls")
    return entry


def parts_of(line):
    """Messages, the number of the first in the line (0: of `system`), and what else is for the template."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Failure(f"not JSON: {reason(error)}") from error
    name = "messages" if isinstance(row, dict) and "messages" in row else "conversations"
    found = row.get(name) if isinstance(row, dict) else None
    if not isinstance(found, list):
        raise Failure("no list `messages` or `conversations`")
    messages = [message_of(entry, number) for number, entry in enumerate(found, 1)]
    others = {key: value for key, value in row.items() if key not in OWN | jinja2.defaults.DEFAULT_NAMESPACE.keys() and not key.endswith("_token")}
    for key in ("tools", "documents"):
        if not isinstance(others.get(key, []), (list, type(None))):
            raise Failure(f"`{key}` is no list")
    system = others.pop("system", None) if name == "conversations" else None
    if not system:
        return messages, 1, others
    if not isinstance(system, str) or any(message["role"] == "system" for message in messages):
        raise Failure("`system` is no text, or beside a message of the system")
    return [message_of({"from": "system", "value": system}, 0)] + messages, 0, others


def pairs_of(chat, line, last):
    messages, first, others = parts_of(line)
    turns = [i for i, message in enumerate(messages) if message["role"] == "assistant" and i > 0]
    if not turns:
        raise Failure("no answer of the assistant; roles: " + (", ".join(message["role"] for message in messages[:5]) or "none"))
    return [chat.pair(messages, turn, first + turn, others, last) for turn in (turns[-1:] if last else turns)]


def convert(chat, paths, last, out):
    chats = examples = 0
    for path in paths:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                    if not text.strip():
                        continue
                    pairs = pairs_of(chat, text, last)
                    out.writelines((json.dumps(pair, ensure_ascii=False) + "\n").encode() for pair in pairs)
                except (Failure, UnicodeError, RecursionError) as error:
                    raise Failure(f"{path}:{number}: {reason(error)}") from error
                chats, examples = chats + 1, examples + len(pairs)
    if not examples:
        raise Failure("no conversation in " + ", ".join(paths))
    return chats, examples


def check_out(paths, path):
    device = os.path.abspath(path).startswith(("/dev/fd/", "/dev/std", "/proc/"))  # a link to what a shell has opened, perhaps
    if device or (os.path.exists(path) and not os.path.isfile(path)):
        raise Failure(f"{path}: no plain file; allowed: the name of a file, there or not")
    for other in paths:
        if os.path.exists(path) and os.path.exists(other) and os.path.samefile(path, other):
            raise Failure(f"{path}: is to be written, and is one of the conversations")


def write(chat, paths, last, path):
    """By way of a file beside it: what fails leaves nothing."""
    check_out(paths, path)
    place = os.path.realpath(path)  # where a link points
    try:
        handle, temporary = tempfile.mkstemp(dir=os.path.dirname(place), prefix=".chat_pairs-")
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from error
    try:
        with open(handle, "wb") as out:
            chats, examples = convert(chat, paths, last, out)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, place)
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
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # by way of what tidies up
    try:
        write(Chat(options.folder), options.chats, options.last, options.out)
    except (Failure, OSError) as error:
        sys.exit(f"chat_pairs: {reason(error)}")


if __name__ == "__main__":
    main()
