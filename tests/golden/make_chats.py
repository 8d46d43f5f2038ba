"""Makes tests/golden/chats.json: conversations as transformers' apply_chat_template writes and tokenises them, with templates in the manner of
known models on the small tokenizers of tests/golden/tokenizers. python3 -m venv VENV && VENV/bin/pip install transformers jinja2.
Usage: make_chats.py GOLDEN_FOLDER"""
import json
import sys
from pathlib import Path

import transformers

CHATML = ("{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
          "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
HEADERS = """{%- set ns = namespace(loops=0) -%}
{{- bos_token -}}
{%- for message in messages %}
    {%- set ns.loops = ns.loops + 1 %}
    {{- '<|im_start|>' + message['role'] + '<|im_end|>\n\n' + message['content'] | trim + '<|endoftext|>' -}}
{%- endfor -%}
{%- if tools %}
    {{- tools | tojson(indent=2) }}
{%- endif %}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant<|im_end|>\n\n' -}}
{%- endif -%}
"""
INSTRUCT = """{{ bos_token }}
{%- for message in messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('roles must alternate') }}
    {%- endif %}
    {%- if message['role'] == 'user' %}
        {{- '[INST] ' + message['content'].strip() + ' [/INST]' }}
    {%- elif message['role'] == 'assistant' %}
        {%- generation %}{{- ' ' + message['content'].strip() + eos_token }}{%- endgeneration %}
    {%- else %}
        {%- continue %}
    {%- endif %}
{%- endfor %}
"""
TURNS = """{{ bos_token or '' }}{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] | trim + '<|im_end|>\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""
MODELS = {  # tokenizer, template, begin token, end token
    'chatml': ('qwen2', CHATML, None, '<|im_end|>'),
    'headers': ('llama3', HEADERS, '<|begin_of_text|>', '<|endoftext|>'),
    'instruct': ('llama2', INSTRUCT, '<s>', '</s>'),
    'first': ('mistral3', INSTRUCT, '<s>', '</s>'),
    'turns': ('qwen2', TURNS, None, '<|endoftext|>'),  # a turn ends with another token than a text
}
CHATS = [
    [('user', 'How far does a law of powers go?'), ('assistant', 'As far as it was held out.')],
    [('user', '  Zwei Wörter\nund eine Zeile '), ('assistant', '1. "größer"\n2. \\kleiner\\\n'), ('user', '漢字 & <b>?'), ('assistant', ' 😀 ')],
]


def golden(folder, name):
    source, template, begin, end = MODELS[name]
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / 'tokenizers' / f'{source}.json'), bos_token=begin, eos_token=end,
                                                     chat_template=template)
    cases = []
    for chat in CHATS:
        messages = [{'role': role, 'content': content} for role, content in chat]
        turns = []
        for i in range(1, len(messages), 2):
            before = tokenizer.apply_chat_template(messages[:i], tokenize=False, add_generation_prompt=True)
            whole = tokenizer.apply_chat_template(messages[:i + 1], tokenize=False)
            ids = tokenizer.apply_chat_template(messages[:i + 1], tokenize=True, return_dict=False)
            assert whole.startswith(before)
            turns.append({'before': before, 'whole': whole, 'ids': ids})
        cases.append({'messages': messages, 'turns': turns})
    return {'tokenizer': source, 'config': {'chat_template': template, 'bos_token': begin, 'eos_token': end}, 'cases': cases}


def main():
    folder = Path(sys.argv[1])
    made = {'made_with': f'transformers {transformers.__version__}', 'models': {name: golden(folder, name) for name in MODELS}}
    (folder / 'chats.json').write_text(json.dumps(made, ensure_ascii=False, indent=1) + '\n')


if __name__ == '__main__':
    main()
