"""VMware's Python SDK starts a program in a guest of the lab, watches it, fetches its output and cleans up. One JSON object on standard output."""
import json, ssl, sys, time, urllib.request
from pyVim.connect import SmartConnect, Disconnect
from pyVmomi import vim

host, port, user, password, name = sys.argv[1:6]
context = ssl._create_unverified_context()
si = SmartConnect(host=host, port=int(port), user=user, pwd=password, sslContext=context)
try:
    content = si.RetrieveContent()
    view = content.viewManager.CreateContainerView(content.rootFolder, [vim.VirtualMachine], True)
    vm = [each for each in view.view if each.name == name][0]
    guest = content.guestOperationsManager
    processes, files = guest.processManager, guest.fileManager
    login = vim.vm.guest.NamePasswordAuthentication(username='backup', password='secret', interactiveSession=False)
    wrong = vim.vm.guest.NamePasswordAuthentication(username='backup', password='wrong', interactiveSession=False)
    spec = vim.vm.guest.ProcessManager.ProgramSpec

    def fault(call):
        try:
            call()
        except Exception as error:
            return type(error).__name__
        return 'none'

    seen = {'faults': [
        fault(lambda: guest.authManager.ValidateCredentialsInGuest(vm, wrong)),
        fault(lambda: processes.StartProgramInGuest(vm, login, spec(programPath='/nowhere', arguments=''))),
        fault(lambda: processes.TerminateProcessInGuest(vm, login, 1)),
        fault(lambda: files.DeleteFileInGuest(vm, login, '/tmp/none')),
    ]}
    guest.authManager.ValidateCredentialsInGuest(vm, login)
    pid = processes.StartProgramInGuest(vm, login, spec(programPath='/opt/say', arguments="'it''s' \"a word\" > '/tmp/say out' 2>/tmp/err"))
    first = processes.ListProcessesInGuest(vm, login, [pid])[0]
    seen['running'] = first.endTime is None and first.exitCode is None
    while processes.ListProcessesInGuest(vm, login, [pid])[0].endTime is None:
        time.sleep(0.05)
    last = processes.ListProcessesInGuest(vm, login, [])[-1]
    seen.update(exitCode=last.exitCode, owner=last.owner, name=last.name, samePid=last.pid == pid)
    transfer = files.InitiateFileTransferFromGuest(vm, login, '/tmp/say out')
    url = transfer.url.replace('*', host).replace(host + ':443', '%s:%s' % (host, port)) if '*' in transfer.url else transfer.url
    if url.startswith('https://%s/' % host): url = url.replace('https://%s/' % host, 'https://%s:%s/' % (host, port))
    body = urllib.request.urlopen(url, context=context).read()
    seen.update(size=transfer.size, body=body.decode())
    put = files.InitiateFileTransferToGuest(vm, login, '/tmp/in', vim.vm.guest.FileManager.PosixFileAttributes(), 5, True)
    if put.startswith('https://*/'): put = put.replace('https://*/', 'https://%s:%s/' % (host, port))
    urllib.request.urlopen(urllib.request.Request(put, data=b'bytes', method='PUT'), context=context)
    seen['files'] = sorted((each.path, each.size) for each in files.ListFilesInGuest(vm, login, '/tmp').files)
    for path in ('/tmp/say out', '/tmp/err', '/tmp/in'): files.DeleteFileInGuest(vm, login, path)
    seen['left'] = fault(lambda: files.ListFilesInGuest(vm, login, '/tmp'))
    slow = processes.StartProgramInGuest(vm, login, spec(programPath='/opt/slow', arguments=''))
    processes.TerminateProcessInGuest(vm, login, slow)
    seen['terminated'] = processes.ListProcessesInGuest(vm, login, [slow])[0].endTime is not None
    print(json.dumps(seen))
finally:
    Disconnect(si)
