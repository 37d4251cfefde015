import fc from 'fast-check'
import { runInNewContext } from 'node:vm'
import { describe, expect, it } from 'vitest'
import { isAgentError } from '../core/index.ts'
import { formatBackuptoolsConf, parseBackuptoolsConf } from './backuptools-conf.ts'
import { Catalog } from './catalog.ts'
import { formatConfigJs, parseConfigJs } from './config-js.ts'

const js = (text: string): Record<string, string> => Object.fromEntries(parseConfigJs(Buffer.from(text), 'config.js'))
const conf = (text: string): Record<string, string> => Object.fromEntries(parseBackuptoolsConf(Buffer.from(text), 'backuptools.conf'))
const catalog = (text: string): Catalog => Catalog.parse(Buffer.from(text), 'catalog')
const configError = expect.objectContaining({ code: 'CONFIG' })

/** Rubbish made of what the formats are made of. */
const rubbish = fc.string({
  unit: fc.constantFrom('A', '=', '"', "'", '\\', '\n', '\r', ';', '/', '*', ' ', 'u', 'x', '0', '{', '#', 'ü', '\u2028'),
  maxLength: 60,
})

describe('config.js', () => {
  it('reads what the framework was installed with', () => {
    const text =
      '\ufeff/* Settings\n * of the proxy */\r\nBACKUPROOT="C:\\\\mnt\\\\backup";\r\n// login\r\nHOST="vc.example.com"; // the server\r\nPORT=443\nvar USERNAME = \'backup\';\nPASSWORD="p\\"w\\u00fc\\x41";\nLINGER=-1.5;;\n'
    expect(js(text)).toEqual({
      BACKUPROOT: 'C:\\mnt\\backup',
      HOST: 'vc.example.com',
      PORT: '443',
      USERNAME: 'backup',
      PASSWORD: 'p"wüA',
      LINGER: '-1.5',
    })
  })

  it.each([
    ['HOST=require("fs")', /Line 1 .*no text, number/],
    ['A="x";\nB="a"+"b";', /Line 2 .*goes on behind its value/],
    ['A="x', /closing quotation mark/],
    ['A="x\ny";', /closing quotation mark/],
    ['A="\\u12";', /escape/],
    ['A="\\u{110000}";', /escape/],
    ['A="\\1";', /escape/],
    ['if (A) B="x";', /no setting/],
    ['A=="x";', /no setting/],
    ['/* for ever', /comment/],
    ['A=1e5', /no text, number/],
  ])('executes nothing: %j is refused with its line', (text, message) => {
    expect(() => js(text)).toThrow(expect.objectContaining({ code: 'CONFIG', message: expect.stringMatching(message) }))
  })

  it('refuses what is too large', () => {
    expect(() => js(' '.repeat(1024 * 1024 + 1))).toThrow(configError)
    expect(() => js(Array.from({ length: 1001 }, (_, index) => `A${index}=1;`).join(''))).toThrow(configError)
  })

  it('any settings survive, and JavaScript itself reads the same', () => {
    const name = fc.stringMatching(/^[A-Z_][A-Z0-9_]{0,12}$/).map((key) => `K${key}`)
    fc.assert(
      fc.property(fc.dictionary(name, fc.string({ unit: 'binary', maxLength: 40 })), (settings) => {
        const text = formatConfigJs(Object.entries(settings))
        expect({ ...js(text) }).toEqual({ ...settings })
        const run: Record<string, unknown> = {}
        runInNewContext(text, run)
        expect({ ...run }).toEqual({ ...settings })
      }),
      { seed: 5, numRuns: 300 },
    )
  })

  it('what it reads of rubbish is what JavaScript would do, all else is CONFIG', () => {
    let read = 0
    fc.assert(
      fc.property(rubbish, (tail) => {
        const text = `A="${tail}`
        let found: Record<string, string>
        try {
          found = js(text)
        } catch (error) {
          expect(isAgentError(error, 'CONFIG')).toBe(true)
          return
        }
        const run: Record<string, unknown> = {}
        runInNewContext(text, run)
        expect(Object.fromEntries(Object.entries(run).map(([key, value]) => [key, String(value)]))).toEqual(
          Object.fromEntries(Object.entries(found).map(([key, value]) => [key, value])),
        )
        read++
      }),
      { seed: 7, numRuns: 3000 },
    )
    expect(read).toBeGreaterThan(20)
  })
})

describe('backuptools.conf', () => {
  it('reads keys without case, comments and quotation marks around a value', () => {
    expect(conf('# login\r\nVCHOST=vc.example.com\r\n username = backup \nPASSWORD="a b#c=d"\n\nOTHER=\n')).toEqual({
      VCHOST: 'vc.example.com',
      USERNAME: 'backup',
      PASSWORD: 'a b#c=d',
      OTHER: '',
    })
  })

  it.each(['rubbish', '=x', 'A B=c'])('refuses %j with its line', (text) => {
    expect(() => conf(`A=1\n${text}\n`)).toThrow(expect.objectContaining({ code: 'CONFIG', message: expect.stringContaining('Line 2') }))
  })

  it('any value of one line survives', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 40 }), (value) => {
        fc.pre(!/[\r\n]/.test(value))
        expect(conf(formatBackuptoolsConf([['PASSWORD', value]]))).toEqual({ PASSWORD: value })
      }),
      { seed: 3, numRuns: 500 },
    )
    expect(() => formatBackuptoolsConf([['PASSWORD', 'a\nb']])).toThrow(expect.objectContaining({ code: 'USAGE' }))
  })

  it('rubbish is settings or CONFIG', () => {
    fc.assert(
      fc.property(rubbish, (text) => {
        try {
          conf(text)
        } catch (error) {
          expect(isAgentError(error, 'CONFIG')).toBe(true)
        }
      }),
      { seed: 4, numRuns: 1000 },
    )
  })
})

describe('catalog', () => {
  const text =
    '# made by hand\r\nversion= "esx-3.0"\nhost=old.example.com\nresourcepool= "/ha-folder-root/ha-datacenter/host/old.example.com/Resources"\n\nconfig.vmx= "[vmfs1] web/web.vmx"\ndisk.scsi0:0.diskname="[vmfs1] web/web.vmdk"\nx.note= "of [vmfs1] a = b"\nvendor = 7'

  it('reads values in every way of writing, and writes what it does not change byte for byte', () => {
    const read = catalog(text)
    expect(read.get('HOST')).toBe('old.example.com')
    expect(read.get('config.vmx')).toBe('[vmfs1] web/web.vmx')
    expect(read.get('vendor')).toBe('7')
    expect(read.get('x.note')).toBe('of [vmfs1] a = b')
    expect(read.format()).toBe(text)
  })

  it('an alternate catalog changes host, pool and datastores, keeps the rest, its order and its way of writing', () => {
    const changed = catalog(text).rewritten({
      host: 'new',
      resourcePool: '/DC/host/new/Resources',
      datastores: { vmfs1: 'ssd 2', other: 'x' },
    })
    expect(changed.format()).toBe(
      text
        .replace('host=old.example.com', 'host=new')
        .replace('"/ha-folder-root/ha-datacenter/host/old.example.com/Resources"', '"/DC/host/new/Resources"')
        .replace('"[vmfs1] web/web.vmx"', '"[ssd 2] web/web.vmx"')
        .replace('"[vmfs1] web/web.vmdk"', '"[ssd 2] web/web.vmdk"'),
    )
    expect(catalog(text).rewritten({}).format()).toBe(text)
  })

  it('a new one tells what the VM was', () => {
    const made = Catalog.of({
      name: 'web 1',
      biosUuid: '42-1',
      poweredOn: true,
      host: 'esx1',
      resourcePool: '/DC/host/C/Resources',
      folder: undefined,
      time: new Date('2026-11-26T12:00:00Z'),
      vmx: '[ds] web/web.vmx',
      disks: [{ label: 'scsi0:0', file: 'scsi0-0-0-web.vmdk', path: '[ds] web/web.vmdk' }],
    })
    expect(catalog(made.format()).format()).toBe(made.format())
    expect([...catalog(made.format())]).toEqual([
      ['version', 'esx-3.0'],
      ['state', 'poweredOn'],
      ['display_name', 'web 1'],
      ['uuid', '42-1'],
      ['disk.scsi0:0.filename', 'scsi0-0-0-web.vmdk'],
      ['disk.scsi0:0.diskname', '[ds] web/web.vmdk'],
      ['config.vmx', '[ds] web/web.vmx'],
      ['host', 'esx1'],
      ['timestamp', '2026-11-26T12:00:00.000Z'],
      ['resourcepool', '/DC/host/C/Resources'],
    ])
  })

  it.each([
    ['a="1"\nrubbish\n', /Line 2/],
    ['a="1"\nA="2"\n', /second time/],
    ['="1"', /Line 1/],
  ])('refuses %j', (bad, message) => {
    expect(() => catalog(bad)).toThrow(expect.objectContaining({ code: 'CONFIG', message: expect.stringMatching(message) }))
  })

  it('a line break never gets into a value', () => {
    expect(() => catalog(text).rewritten({ host: 'a\nstate= "x"' })).toThrow(expect.objectContaining({ code: 'USAGE' }))
  })

  it('rubbish is CONFIG or comes back byte for byte', () => {
    fc.assert(
      fc.property(rubbish, (bad) => {
        try {
          expect(catalog(bad).format()).toBe(bad)
        } catch (error) {
          expect(isAgentError(error, 'CONFIG')).toBe(true)
        }
      }),
      { seed: 6, numRuns: 2000 },
    )
  })

  it('any value that is set is read again, whatever was there', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 30 }), fc.constantFrom('host', 'vendor', 'new.key'), (value, key) => {
        fc.pre(!/[\r\n]/.test(value))
        const changed = catalog(text).with(key, value)
        expect(changed.get(key)).toBe(value)
        expect(catalog(changed.format()).get(key)).toBe(value)
        expect(catalog(changed.format()).get('config.vmx')).toBe('[vmfs1] web/web.vmx')
      }),
      { seed: 8, numRuns: 500 },
    )
  })
})
