#!/usr/bin/env node
'use strict'
require('./start.cjs')(__filename, function (cli, argv) {
  return cli.tool('mountvm', argv)
})
