import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Decoder } from './decoder.ts'
import { Encoder } from './encoder.ts'
import { labRef, type LabValue, VimFault } from './index.ts'
import { readCall, readRequest } from './request-reader.ts'
import { type Field, TypeTable } from './type-table.ts'

const types = new TypeTable()
const newest = types.versions.length - 1
const NS = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:xsd="http://www.w3.org/2001/XMLSchema"'

/** Writes a field and reads it back. */
const roundTrip = (field: Field, value: LabValue): LabValue => {
  const xml = `<args ${NS}>${new Encoder(types, newest).field(field, value)}</args>`
  return new Decoder(types, newest).args('test', [field], readRequest(xml).children)[field.name]
}
const field = (type: string, rest: Partial<Field> = {}): Field => ({
  name: 'f',
  type,
  array: false,
  ref: false,
  optional: true,
  since: 0,
  ...rest,
})

describe('the codec', () => {
  it('reads back every scalar it writes', () => {
    const text = fc
      .string({ unit: 'binary' })
      // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what XML cannot hold
      .map((value) => value.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, '?').toWellFormed())
    const same = <T extends LabValue>(declared: Field, values: fc.Arbitrary<T>, runs = 100): void =>
      fc.assert(
        fc.property(values, (value) => {
          expect(roundTrip(declared, value)).toEqual(value)
        }),
        { numRuns: runs },
      )
    same(field('string'), text, 300)
    same(field('int'), fc.integer())
    same(field('boolean'), fc.boolean())
    same(field('dateTime'), fc.date({ min: new Date(0), max: new Date('2999-01-01'), noInvalidDate: true }))
    const id = fc.string({ minLength: 1, unit: fc.constantFrom('a', 'b', '-', '1', '[', ']', '/', '@', '%') })
    same(
      field('VirtualMachine', { ref: true }),
      id.map((value) => labRef('VirtualMachine', value)),
    )
    const long = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })
    same(
      field('long'),
      long.map((value) => (value >= BigInt(Number.MIN_SAFE_INTEGER) && value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value)),
    )
  })

  it('reads back anyType values with their types', () => {
    for (const value of [
      'x',
      true,
      5,
      5_000_000_000,
      new Date(0),
      labRef('Task', 't'),
      ['a', 'b'],
      [1, 2],
      { $type: 'OptionValue', key: 'k', value: 'v' },
      [{ $type: 'OptionValue', key: 'k', value: 1 }],
    ] as LabValue[]) {
      expect(roundTrip(field('any'), value)).toEqual(value)
    }
    expect(roundTrip(field('any'), { $type: 'xsd:long', value: 5 })).toBe(5)
    expect(roundTrip(field('any'), { $type: 'ArrayOfHostDatastoreBrowserSearchResults', items: [] })).toEqual([])
  })

  it('reads back a device with its backing chain', () => {
    const disk: LabValue = {
      $type: 'VirtualDisk',
      key: 2000,
      backing: {
        $type: 'VirtualDiskSeSparseBackingInfo',
        fileName: '[ds] a-000001.vmdk',
        diskMode: 'persistent',
        changeId: 'x/1',
        parent: { $type: 'VirtualDiskSeSparseBackingInfo', fileName: '[ds] a.vmdk', diskMode: 'persistent' },
      },
      controllerKey: 1000,
      unitNumber: 0,
      capacityInKB: 1024,
    }
    expect(roundTrip(field('VirtualDevice'), disk)).toEqual(disk)
  })

  it('writes newer types as the nearest base an old client knows', () => {
    const old = new Encoder(types, types.versionIndex('6.0'))
    expect(old.any({ $type: 'VirtualNVMEController', key: 1, busNumber: 0 })).toMatch(/^ xsi:type="VirtualController"/)
    expect(new Encoder(types, newest).any({ $type: 'VirtualNVMEController', key: 1, busNumber: 0 })).toMatch(
      /^ xsi:type="VirtualNVMEController"/,
    )
  })

  it('refuses values that do not fit their declaration', () => {
    const encoder = new Encoder(types, newest)
    for (const [declared, value] of [
      [field('int'), 'x'],
      [field('int'), 1.5],
      [field('boolean'), 1],
      [field('dateTime'), '2026'],
      [field('string', { array: true }), 'x'],
      [field('Folder', { ref: true }), labRef('VirtualMachine', 'vm-1')],
      [field('VirtualDevice'), { $type: 'OptionValue', key: 'k' }],
      [field('VirtualDevice'), { $type: 'NoSuchType' }],
    ] as [Field, LabValue][]) {
      expect(() => encoder.field(declared, value)).toThrow(Error)
    }
  })

  it('writes a fault it does not know as SystemError, so that a task can still be read', () => {
    const xml = new Encoder(types, newest).any(new VimFault('NoSuchFault', { a: 1 }, 'text').localized)
    expect(xml).toContain(
      '<fault xsi:type="SystemError"><reason>The lab does not know the fault NoSuchFault.</reason></fault><localizedMessage>text<',
    )
    expect([types.isFault('NoDiskSpace'), types.isFault('VirtualDisk'), types.isFault('Nothing')]).toEqual([true, false, false])
  })

  it('knows versions by value and takes unknown ones for the oldest', () => {
    const name = (id?: string) => types.versions[types.versionIndex(id)]
    expect([name('8.0.3.0'), name('7.0'), name('6.7.1'), name('6.7.2.1'), name('5.5')]).toEqual([
      '8.0.3.0',
      '7.0.0.0',
      '6.7.1',
      '6.7.2',
      '5.5',
    ])
    for (const id of [undefined, '', '9.0.0.0', 'abc', '1.0']) expect(name(id)).toBe('2.5')
  })

  it('answers rubbish with InvalidRequest, never anything else', () => {
    const whole = `<Envelope ${NS}><Body><Login xmlns="urn:vim25"><_this type="SessionManager">S</_this><userName>u</userName></Login></Body></Envelope>`
    const check = (text: string): void => {
      try {
        const call = readCall(text)
        new Decoder(types, newest).args('Login', types.method('SessionManager', 'Login')?.params ?? [], call.params)
      } catch (error) {
        expect(error).toBeInstanceOf(VimFault)
        expect(error).toMatchObject({ faultType: 'InvalidRequest' })
      }
    }
    fc.assert(fc.property(fc.string({ unit: 'binary' }), check), { numRuns: 500, seed: 7 })
    fc.assert(
      fc.property(fc.nat(whole.length), fc.nat(20), fc.string({ maxLength: 8 }), (at, drop, insert) =>
        check(whole.slice(0, at) + insert + whole.slice(at + drop)),
      ),
      { numRuns: 1500, seed: 7 },
    )
    check(`<a>${'<b>'.repeat(200)}${'</b>'.repeat(200)}</a>`)
  })
})
