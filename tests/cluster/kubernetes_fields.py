"""kubernetes_fields.py MANIFEST: every key of the manifest is one of the Kubernetes client's V1Job, at every depth, and the required ones are there."""
import sys, yaml
from kubernetes import client
api = client.ApiClient()
data = yaml.safe_load(open(sys.argv[1]))
def walk(value, kind, path):
    if kind[:5].lower() == 'list[':
        for i, v in enumerate(value): walk(v, kind[5:-1], f'{path}[{i}]')
    elif kind[:4].lower() == 'dict' or kind in ('str','int','bool','object','datetime','float'):
        if kind in ('str','int','bool'): assert isinstance(value, {'str':str,'int':int,'bool':bool}[kind]), (path, kind, value)
    else:
        cls = getattr(client, kind)
        names = {v: k for k, v in cls.attribute_map.items()}
        for k, v in value.items():
            assert k in names, f'{path}.{k} is no field of {kind}'
            walk(v, cls.openapi_types[names[k]], f'{path}.{k}')
        cls(**{names[k]: v for k, v in value.items()})
walk(data, 'V1Job', 'job'); print('ok', client.__version__ if hasattr(client,'__version__') else '')
