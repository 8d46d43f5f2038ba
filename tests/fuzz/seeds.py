"""Seeds of data sets: small files as `tunelaw data` writes them (io/dataset.h). seeds.py FOLDER"""
import sys

import h5py
import numpy

for name, vocabulary, width in (('small', 400, 'u2'), ('wide', 70000, 'u4')):
    with h5py.File(f'{sys.argv[1]}/{name}', 'w', libver=('v108', 'v108')) as f:
        f.attrs.create('version', 1, dtype='u8')
        f.attrs.create('vocabulary', vocabulary, dtype='u8')
        f.attrs.create('separator', 4, dtype='u8')
        for key, text in (('digest', '00112233445566778899aabbccddeeff'), ('task', 'small'), ('description', 'a seed')):
            f.attrs.create(key, numpy.bytes_(text + '\0'), dtype=f'S{len(text) + 1}')
        parts = {'tokenizer': ('u1', range(64)), 'text/train': (width, range(5, 205)), 'text/valid': (width, range(5, 55))}
        for split in ('train', 'valid', 'test'):
            parts[f'examples/{split}/tokens'] = (width, [1, 7, 4, 8, 2] * 6)
            parts[f'examples/{split}/offsets'] = ('u8', range(0, 31, 5))
            parts[f'examples/{split}/sources'] = ('u4', [3] * 6)
        for path, (kind, values) in parts.items():
            f.create_dataset(path, data=numpy.array(list(values), dtype='<' + kind), track_times=False)
