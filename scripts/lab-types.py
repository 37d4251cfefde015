#!/usr/bin/python3
"""Write src/lab/wire/types.json: the type definitions of the vSphere API that the lab speaks.

  /usr/bin/python3 -W ignore scripts/lab-types.py          (needs Debian's python3-pyvmomi 6.7.1)
  npx biome format --write src/lab/wire/types.json

Interface facts (names, declaration order, declared types, optional, since-version) are read from pyVmomi's published type tables
(Apache License 2.0, Copyright VMware, Inc.); no code is taken. What is newer than 6.7.1, or internal, comes by hand from
scripts/lab-types.overlay.json. Only what the lab serves is kept: the managed types and methods listed below and every data type
reachable from them, with the subtypes of polymorphic bases.

A field is written `name type` with marks: name `?` optional, `@N` since versions[N]; type `[]` array, `&` reference to a managed object.
"""
import json, os, re
from pyVmomi import VmomiSupport as V
import pyVmomi

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, '..', 'src', 'lab', 'wire', 'types.json')
OVERLAY = os.path.join(HERE, 'lab-types.overlay.json')

VERSIONS = ['2.0', '2.5', '2.5u2', '4.0', '4.1', '5.0', '5.1', '5.5', '6.0', '6.5', '6.7', '6.7.1', '6.7.2', '6.7.3', '7.0.0.0',
            '7.0.1.0', '7.0.2.0', '7.0.3.0', '7.0.3.1', '7.0.3.2', '8.0.0.0', '8.0.1.0', '8.0.2.0', '8.0.3.0']

# Managed types served, with the methods the lab may serve. '*' = all.
SERVED = {
    'ServiceInstance': '*', 'SessionManager': '*', 'PropertyCollector': '*', 'PropertyFilter': '*',
    'ViewManager': '*', 'View': '*', 'ManagedObjectView': '*', 'ContainerView': '*', 'ListView': '*', 'InventoryView': '*',
    'TaskManager': '*', 'Task': '*', 'HistoryCollector': '*', 'TaskHistoryCollector': '*', 'EventManager': '*',
    'EventHistoryCollector': '*', 'ExtensibleManagedObject': '*', 'ManagedEntity': '*', 'SearchIndex': '*',
    'Folder': ['CreateFolder', 'MoveIntoFolder_Task', 'CreateVM_Task', 'RegisterVM_Task', 'CreateDatacenter', 'UnregisterAndDestroy_Task'],
    'Datacenter': [], 'StoragePod': [], 'ComputeResource': [], 'ClusterComputeResource': [],
    'ResourcePool': ['ImportVApp', 'CreateChildVM_Task', 'RegisterChildVM_Task', 'CreateResourcePool', 'UpdateConfig'], 'VirtualApp': [],
    'HostSystem': ['QueryHostConnectionInfo', 'EnterMaintenanceMode_Task', 'ExitMaintenanceMode_Task', 'DisconnectHost_Task', 'ReconnectHost_Task'],
    'HostDatastoreSystem': ['CreateNasDatastore', 'RemoveDatastore', 'CreateLocalDatastore'],
    'HostStorageSystem': ['RescanAllHba', 'RescanVmfs', 'RefreshStorageSystem'],
    'HostDatastoreBrowser': '*', 'Datastore': ['RefreshDatastore', 'RefreshDatastoreStorageInfo', 'DestroyDatastore', 'RenameDatastore'],
    'Network': [], 'OpaqueNetwork': [], 'DistributedVirtualSwitch': [], 'DistributedVirtualPortgroup': [], 'VmwareDistributedVirtualSwitch': [],
    'EnvironmentBrowser': ['QueryConfigOptionDescriptor', 'QueryConfigTarget'],
    'VirtualMachine': [m for m in '''RefreshStorageInfo CreateSnapshot_Task CreateSnapshotEx_Task RevertToCurrentSnapshot_Task RemoveAllSnapshots_Task
        ConsolidateVMDisks_Task EstimateStorageForConsolidateSnapshots_Task ReconfigVM_Task UpgradeVM_Task PowerOnVM_Task PowerOffVM_Task
        SuspendVM_Task ResetVM_Task ShutdownGuest RebootGuest StandbyGuest AnswerVM UnregisterVM CloneVM_Task RelocateVM_Task MigrateVM_Task
        ExportVm MarkAsTemplate MarkAsVirtualMachine QueryChangedDiskAreas AcquireTicket UpgradeTools_Task MountToolsInstaller
        UnmountToolsInstaller ReloadVirtualMachineFromPath_Task PromoteDisks_Task QueryUnownedFiles AttachDisk_Task DetachDisk_Task
        DefragmentAllDisks'''.split()],
    'VirtualMachineSnapshot': '*', 'FileManager': '*', 'VirtualDiskManager': '*',
    'OvfManager': '*', 'HttpNfcLease': '*', 'AuthorizationManager': '*', 'CustomFieldsManager': '*', 'ExtensionManager': '*',
    'AlarmManager': '*', 'Alarm': '*', 'StorageResourceManager': ['ConfigureDatastoreIORM_Task'],
    'GuestOperationsManager': '*', 'GuestProcessManager': '*', 'GuestFileManager': '*', 'GuestAuthManager': '*',
    'LicenseManager': ['QueryLicenseSourceAvailability', 'QuerySupportedFeatures'], 'OptionManager': '*', 'UserDirectory': '*',
    'PerformanceManager': ['QueryPerfCounter', 'QueryAvailablePerfMetric', 'QueryPerfProviderSummary'], 'HostLocalAccountManager': [],
}
# Properties whose types would pull in large parts of the API that no backup touches; reading one is InvalidProperty in the lab.
SKIP_PROPERTIES = {
    'HostSystem': ['hardware', 'answerFileValidationState', 'answerFileValidationResult', 'systemResources', 'precheckRemediationResult', 'remediationResult', 'complianceCheckResult'],
    'PerformanceManager': ['description'], 'LicenseManager': ['diagnostics', 'evaluation'],
    'ClusterComputeResource': ['actionHistory', 'migrationHistory', 'drsFault', 'drsRecommendation', 'recommendation', 'configuration'],
    'HostConfigInfo': ['vsanHostConfig', 'ipmi', 'authenticationManagerInfo', 'graphicsInfo', 'sharedPassthruGpuTypes', 'pciPassthruInfo',
                       'sriovDevicePool', 'iofilter', 'activeDiagnosticPartition', 'powerSystemInfo', 'powerSystemCapability', 'sslThumbprintInfo',
                       'multipathState', 'flags', 'adminDisabled', 'autoStart', 'systemResources', 'firewall', 'hyperThread', 'ioFilterInfo',
                       'cacheConfigurationInfo', 'capabilities', 'datastoreCapabilities', 'offloadCapabilities', 'graphicsConfig', 'assignableHardwareConfig'],
    'ClusterConfigInfoEx': ['proactiveDrsConfig', 'infraUpdateHaConfig', 'orchestration'],
}
# Bases whose subtypes are not wanted beyond those listed by prefix (None: all subtypes).
SKIP_SUBTYPES = re.compile(r'^(Host(Vsan|Pci|Sriov|IoFilter|Vffs|Graphics|ProfileManager|Nat|Dhcp|.*Profile)|Cluster(Ha|Drs|Dpm|Proactive|Infra)|Vsan|VirtualMachinePci|Crypto(Manager|SpecNoOp)|'
                           r'.*Policy(Option)?$|DVS|VMwareDVS|Dvs|VMwareDvs|DistributedVirtual|Profile|Answer|Apply|StorageDrs|Placement|Compliance)')

PRIMITIVE = {'string': 'string', 'int': 'int', 'long': 'long', 'short': 'short', 'byte': 'byte', 'boolean': 'boolean', 'double': 'double', 'float': 'float',
             'anyType': 'any', 'vmodl.DateTime': 'dateTime', 'vmodl.Binary': 'binary', 'vmodl.Base64Binary': 'binary', 'vmodl.Uri': 'string', 'vmodl.URI': 'string',
             'vmodl.TypeName': 'string', 'vmodl.PropertyPath': 'string', 'vmodl.MethodName': 'string', 'vmodl.ManagedMethod': 'string',
             'vmodl.AnyUri': 'string', 'vmodl.Any': 'any', 'void': 'void', 'type': 'string', 'anyURI': 'string'}

data = {d[0]: d for d in V._dataDefMap.values()}
enums = {d[0]: d for d in V._enumDefMap.values()}
managed = {d[0]: d for d in V._managedDefMap.values()}
data.setdefault('vmodl.MethodFault', None)


def version(name):
    if name.startswith('vmodl.'): return 0
    vid = V.versionIdMap.get(name, '')
    if vid in ('2.5u2server',): vid = '2.5u2'
    return VERSIONS.index(vid) if vid in VERSIONS else 0


def wire(vmodl):
    """Declared type in our notation, and the vmodl name of the data type it needs."""
    array = vmodl.endswith('[]')
    base = vmodl[:-2] if array else vmodl
    tail = '[]' if array else ''
    if base in PRIMITIVE: return PRIMITIVE[base] + tail, None
    if base == 'vmodl.MethodFault': return 'LocalizedMethodFault' + tail, None   # on the wire a fault in a field is always localized
    if base in managed: return '&' + managed[base][1] + tail, None
    if base in ('vmodl.ManagedObject',): return '&ManagedObject' + tail, None
    if base in enums: return enums[base][1] + tail, base
    if base in data: return data[base][1] + tail, base
    raise Exception('unknown type ' + vmodl)


def field(p, owner_version):
    name, typ, ver, flags = p[0], p[1], p[2], p[3]
    text, need = wire(typ)
    if flags & V.F_LINK: text, need = 'string' + ('[]' if typ.endswith('[]') else ''), None   # a link goes on the wire as the key it points to
    since = version(ver)
    optional = '?' if flags & V.F_OPTIONAL else ''
    return name + optional + ('@%d' % since if since > owner_version else '') + ' ' + text, need


children = {}
for d in data.values():
    if d: children.setdefault(d[2], []).append(d[0])

out = {'data': {}, 'enums': {}, 'managed': {}}
todo, done = [], set()


def need(vmodl):
    if vmodl and vmodl not in done: done.add(vmodl); todo.append(vmodl)


by_wire = {d[1]: d for d in managed.values()}
seen_managed = set()
for name, methods in SERVED.items():
    d = by_wire[name]
    skip = SKIP_PROPERTIES.get(name, [])
    own = version(d[3])
    props = []
    for p in d[4] or []:
        if p[0] in skip: continue
        f, n = field(p, own); props.append(f); need(n)
    table = {}
    for m in d[5] or []:
        if methods != '*' and m[1] not in methods: continue
        params = []
        since = version(m[2])
        for p in m[3]:
            f, n = field(p, since); params.append(f); need(n)
        returns, n = wire(m[4][1]); need(n)
        if m[4][2] not in ('void', m[4][1]): need(wire(m[4][2])[1])        # result of the task
        table[m[1]] = [since, returns, params]
    parent = managed[d[2]][1] if d[2] in managed else 'ManagedObject'
    out['managed'][name] = [parent, own, props, table]
# Bases of served types that are not served themselves.
for name in list(out['managed']):
    parent = out['managed'][name][0]
    while parent not in out['managed'] and parent != 'ManagedObject':
        d = by_wire[parent]
        props = []
        for p in d[4] or []:
            f, n = field(p, version(d[3])); props.append(f); need(n)
        out['managed'][parent] = [managed[d[2]][1] if d[2] in managed else 'ManagedObject', version(d[3]), props, {}]
        parent = out['managed'][parent][0]
# Every fault and event, and the polymorphic extras that no declaration names.
FAULTS = {'vmodl.MethodFault', 'vmodl.RuntimeFault'}
def is_fault(d):
    while d:
        if d[2] in FAULTS: return True
        d = data.get(d[2])
    return False
for d in list(data.values()):
    if d and is_fault(d) and not re.match(r'^(DVPort|Dvs|Ldap|Cannot(Move|Reconfigure|Add|Remove|PowerOn|Modify|Enable|Disable|Change|Use)|EVC|Evc|Ft|FaultTol|RDMNot|Replication|Incompatible(Def|Host|Hot)|VApp|VmFault|Vspan|Vasa|Vsan|Patch|Remove|Disallowed|Drs|Legacy|Large|Swap|VMotion|WWN|Wwn|Rule|Profile|NamespaceWrite|OvfUns|OvfCons|OvfHardware|OvfInv|OvfMis|OvfNetwork|OvfUnk|OvfUnex|OvfWrong|OvfNo|OvfDup|OvfXml|OvfCpu|OvfEx|OvfHost|OvfDisk|OvfInternal|OvfMap|OvfProp|OvfTo|OvfAttr|OvfConn)', d[1]):
        need(d[0])
need('vmodl.RuntimeFault')
EVENTS = re.compile(r'^(Event|VmEvent|VmCreated|VmBeing|VmPowered|VmPowering|VmStarting|VmStopping|VmSuspend|VmReconfigured|VmRemoved|VmRegistered|VmRenamed|VmCloned|VmRelocated|VmMigrated|VmEmigrat|'
                    r'VmGuest|VmMessage|VmRequirements|VmDiskFailed|VmFailed|VmReset|VmResuming|VmDisconnected|VmConnected|VmOrphaned|VmUuid|VmInstanceUuid|VmNoNetwork|VmDiscovered|VmDeploy|VmAcquired|VmTimedout|'
                    r'TaskEvent|TaskTimeoutEvent|SessionEvent|UserLogin|UserLogout|BadUsername|AlreadyAuthenticated|NoAccess|GeneralEvent|GeneralUserEvent|GeneralVm|GeneralHost|ExtendedEvent|EventEx|GlobalMessage|ServerStart|SessionTerm|'
                    r'DatastoreEvent|DatastoreFile|FileDeleted|DatastoreCap|DatastoreDest|DatastoreRemoved|HostEvent|HostConn|HostDisconnected|CustomField|EntityEvent|AlarmEvent|AlarmCreated|AlarmStatus|NASDatastore|VMFSDatastore|NonVI|TemplateEvent|TemplateUpgrade)')
for d in list(data.values()):
    if d and (d[1].endswith('Event') or d[1].endswith('EventEx')) and EVENTS.match(d[1]): need(d[0])
for name in '''vim.vm.ConfigSpec vim.vm.VirtualMachineImportSpec vim.VirtualMachine vim.vm.WindowsQuiesceSpec vim.host.DatastoreBrowser.SearchResults
    vmodl.KeyAnyValue vim.TaskReasonUser'''.split():
    if name in data: need(name)


def want_subtypes(vmodl):
    return not is_fault(data[vmodl]) and not vmodl.startswith('vim.event.') and vmodl != 'vmodl.DynamicData'


while todo:
    n = todo.pop()
    if n in enums:
        out['enums'][enums[n][1]] = enums[n][3]; continue
    d = data[n]
    if d is None: continue
    own = version(d[3])
    fields = []
    for p in d[4] or []:
        if p[0] in SKIP_PROPERTIES.get(d[1], []): continue
        f, k = field(p, own); fields.append(f); need(k)
    parent = d[2]
    if parent in data and data[parent]: need(parent); pw = data[parent][1]
    else: pw = 'MethodFault' if parent == 'vmodl.MethodFault' else ''
    out['data'][d[1]] = [pw, own, fields]
    if want_subtypes(n):
        for c in children.get(n, []):
            if not SKIP_SUBTYPES.match(data[c][1]): need(c)

# vmodl's own roots, which the tables above do not hold.
out['data']['DynamicData'] = ['', 0, []]
out['data']['DynamicProperty'] = ['', 0, ['name string', 'val any']]
out['data']['LocalizableMessage'] = ['DynamicData', 0, ['key string', 'arg? KeyAnyValue[]', 'message? string']]
out['data']['KeyAnyValue'] = ['DynamicData', 0, ['key string', 'value any']]
out['data']['MethodFault'] = ['', 0, ['faultCause? LocalizedMethodFault', 'faultMessage? LocalizableMessage[]']]
out['data']['LocalizedMethodFault'] = ['DynamicData', 0, ['fault MethodFault', 'localizedMessage? string']]
out['data'].setdefault('RuntimeFault', ['MethodFault', 0, []])

# By hand: a field goes after the one named by `after`.
overlay = json.load(open(OVERLAY))
for kind in ('data', 'enums', 'managed'): out[kind].update(overlay.get(kind, {}))
def insert(fields, add):
    for after, text in add:
        at = next((i for i, f in enumerate(fields) if re.match(re.escape(after) + r'[?@ ]', f)), None)
        if at is None: raise Exception('no field ' + after)
        fields.insert(at + 1, text)
for name, add in overlay.get('dataFields', {}).items(): insert(out['data'][name][2], add)
for name, table in overlay.get('methods', {}).items(): out['managed'][name][3].update(table)
for name, replace in overlay.get('replaceFields', {}).items():
    fields = out['data'][name][2]
    for i, f in enumerate(fields):
        key = re.match(r'\w+', f).group(0)
        if key in replace: fields[i] = replace[key]

lines = ['{', '"origin": "%s",' % 'Interface facts from the type tables of pyVmomi %s (Apache-2.0, Copyright VMware, Inc.), written by scripts/lab-types.py; additions by hand in scripts/lab-types.overlay.json' % '6.7.1',
         '"versions": %s,' % json.dumps(VERSIONS)]
for k in ('enums', 'data', 'managed'):
    lines.append('"%s": {' % k)
    rows = ['%s:%s' % (json.dumps(n), json.dumps(out[k][n], separators=(',', ':'))) for n in sorted(out[k])]
    lines.append(',\n'.join(rows))
    lines.append('}' if k == 'managed' else '},')
lines.append('}')
open(OUT, 'w').write('\n'.join(lines) + '\n')
print(len('\n'.join(lines)), 'bytes;', ', '.join('%d %s' % (len(out[k]), k) for k in ('data', 'enums', 'managed')))
