import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { AgentError, ERROR_CODES } from '../core/index.ts'
import { faultError } from './fault-error.ts'
import { FAULT_FAMILIES, FAULTS } from './fault-table.ts'
import { decodeAnswer } from './soap.ts'
import { faultOf, isFault, VimFault } from './vim-fault.ts'
import { readXml } from './xml-reader.ts'

const XSI = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
const fault = (name: string, fields = '', text = ''): VimFault => new VimFault(name, text, readXml(`<f ${XSI}>${fields}</f>`))

describe('faults', () => {
  it("reads the fault VMware's simulator gives for a wrong password", () => {
    const answer = readXml(readFileSync(join(import.meta.dirname, '..', '..', 'test', 'golden', 'soap', 'invalid-login.xml')))
    expect(() => decodeAnswer(answer, 'Login')).toThrow(VimFault)
    try {
      decodeAnswer(answer, 'Login')
    } catch (error) {
      expect((error as VimFault).faultName).toBe('InvalidLogin')
    }
  })

  it("falls back to the element's name, then to RuntimeFault", () => {
    const answer = (detail: string): string => `<Envelope><Body><Fault><faultstring>t</faultstring>${detail}</Fault></Body></Envelope>`
    for (const [detail, name] of [
      ['<detail><NoPermissionFault/></detail>', 'NoPermission'],
      [`<detail><x ${XSI} xsi:type="FileLocked"/></detail>`, 'FileLocked'],
      ['', 'RuntimeFault'],
    ] as const) {
      expect(() => decodeAnswer(readXml(answer(detail)), 'X')).toThrow(expect.objectContaining({ faultName: name, message: 't' }))
    }
  })

  it('has a sentence, a known code and no loose end for every fault of the table', () => {
    for (const name of Object.keys(FAULTS)) {
      const error = faultError(fault(name), 'CreateSnapshot_Task', 'vc:443', 'web1')
      expect(error.message, name).toMatch(/^CreateSnapshot_Task on web1 (was|is|failed|took)\b.*\(vc:443, fault \w+\)\.$/)
      expect(error.message, name).not.toMatch(/undefined|NaN|\s{2}/)
      expect(Object.keys(ERROR_CODES), name).toContain(error.code)
      expect(error.next.length, name).toBeGreaterThan(10)
      expect(isFault(error, name)).toBe(true)
    }
    for (const [, like] of FAULT_FAMILIES) expect(FAULTS[like]).toBeDefined()
  })

  it.each([
    ['NoPermission', '<privilegeId>VirtualMachine.State.CreateSnapshot</privilegeId>', 'AUTH', 'VirtualMachine.State.CreateSnapshot'],
    [
      'NoPermission',
      '<missingPrivileges><privilegeIds>A.B</privilegeIds><privilegeIds>C.D</privilegeIds></missingPrivileges>',
      'AUTH',
      'A.B, C.D',
    ],
    ['FileLocked', '<file>[ds] a.vmdk</file>', 'CONFLICT', '[ds] a.vmdk is locked'],
    ['NoDiskSpace', '<file>f</file><datastore>ds1</datastore>', 'CAPACITY', 'ds1 is full'],
    ['ApplicationQuiesceFault', '', 'GUEST', 'could not be quiesced'],
    ['WindowsQuiesceFault', '', 'GUEST', 'quiesced'],
    ['ManagedObjectNotFound', '<obj type="VirtualMachine">vm-1</obj>', 'NOT_FOUND', 'does not exist'],
    ['RestrictedVersion', '', 'CONFIG', 'free ESXi'],
    ['TaskInProgress', '', 'CONFLICT', 'another task'],
    ['DvsNotFound', '', 'NOT_FOUND', 'not found'],
  ])('%s %s', (name, fields, code, words) => {
    expect(faultError(fault(name, fields), 'M', 'h', 's')).toMatchObject({ code, message: expect.stringContaining(words) })
  })

  it('keeps the name and the text of a fault nobody has foreseen', () => {
    const error = faultError(fault('SomethingNew', '', 'the  server\nsays so'), 'M', 'vc', undefined)
    expect(error).toMatchObject({ code: 'UNAVAILABLE', retry: 'never', message: 'M failed at vc with SomethingNew: the server says so.' })
  })

  it('finds a fault at any depth, and none where there is none', () => {
    const inner = faultError(fault('FileLocked'), 'M', 'h')
    const outer = new AgentError('CONFLICT', 'outer', { cause: new SuppressedError(new Error('clean-up'), inner) })
    expect(faultOf(outer)?.faultName).toBe('FileLocked')
    expect(faultOf(new Error('x', { cause: 'text' }))).toBeUndefined()
    expect(isFault(undefined, 'FileLocked')).toBe(false)
  })
})
