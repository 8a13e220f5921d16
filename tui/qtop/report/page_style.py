"""The style of the report's page: system fonts, quiet colours, light and dark, a printed form; nothing from outside."""

STYLE = """
:root{color-scheme:light dark;--bg:#fff;--fg:#1c2024;--dim:#5f6972;--line:#e2e6ea;--soft:#f5f7f9;
--c0:#2f6fb0;--c1:#c2711b;--c2:#3d8b5f;--c3:#8a5aa8;--bad:#b3372f;--warn:#a96a08}
@media (prefers-color-scheme:dark){:root{--bg:#14171a;--fg:#dfe3e7;--dim:#98a2ab;--line:#2b3137;--soft:#1b1f23;
--c0:#74aee6;--c1:#e0a05c;--c2:#7cc29a;--c3:#bf97d8;--bad:#ec8078;--warn:#dfae5b}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1240px;padding:28px 24px 64px;background:var(--bg);color:var(--fg);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",sans-serif;
font-variant-numeric:tabular-nums;overflow-wrap:break-word}
h1{font-size:24px;line-height:1.3;margin:4px 0 8px;font-weight:600}
h2{font-size:17px;margin:40px 0 12px;padding-bottom:6px;border-bottom:1px solid var(--line);font-weight:600}
h3{font-size:15px;margin:0;font-weight:600}
p{margin:6px 0}.dim,.meta{color:var(--dim)}.meta{font-size:13px}
code,pre{font-family:ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:13px}
pre{overflow-x:auto;background:var(--soft);padding:10px 12px;border-radius:6px}
table{border-collapse:collapse;width:100%;font-size:14px}
.wide{overflow-x:auto}.wide td:first-child{min-width:9em}
th,td{text-align:left;vertical-align:top;padding:5px 14px 5px 0;border-bottom:1px solid var(--line)}
th{font-weight:500;color:var(--dim);font-size:13px}
td.n,th.n{text-align:right;white-space:nowrap}td.w{white-space:nowrap}
.head{border-left:4px solid var(--line);padding-left:16px}
.head.warning{border-color:var(--warn)}.head.critical{border-color:var(--bad)}
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(340px,100%),1fr));gap:20px 24px}
figure{margin:0;break-inside:avoid}figcaption{display:flex;flex-wrap:wrap;gap:2px 12px;font-size:13px}
figcaption b{font-weight:600}.key{color:var(--dim);white-space:nowrap}
.key i,.dot{display:inline-block;width:10px;height:3px;vertical-align:middle;margin-right:5px;border-radius:2px}
.plot{display:block;width:100%;height:auto}
.plot text{font-size:11px;fill:var(--dim)}.plot .y{text-anchor:end}.plot .x{text-anchor:middle}
.grid,.tick{stroke:var(--line);fill:none}
.line{fill:none;stroke-width:1.5;stroke-linejoin:round;stroke-linecap:round}
.band{stroke:none;opacity:.16}
.line.c0{stroke:var(--c0)}.line.c1{stroke:var(--c1)}.line.c2{stroke:var(--c2)}.line.c3{stroke:var(--c3)}
.band.c0{fill:var(--c0)}.band.c1{fill:var(--c1)}.band.c2{fill:var(--c2)}.band.c3{fill:var(--c3)}
.key .c0{background:var(--c0)}.key .c1{background:var(--c1)}.key .c2{background:var(--c2)}.key .c3{background:var(--c3)}
.time{display:grid;grid-template-columns:minmax(120px,300px) 1fr;gap:6px 16px;align-items:center;font-size:14px}
.time svg{display:block;width:100%;height:14px;background:var(--soft);border-radius:3px}
.info{fill:var(--c0)}.warning{fill:var(--warn)}.critical{fill:var(--bad)}.time .none{fill:var(--dim);opacity:.3}
.event{fill:var(--fg)}
.time+.wide{margin-top:16px}.time rect,.fall rect{opacity:.85}
.axis{position:relative;height:18px;color:var(--dim);font-size:12px}
.axis span{position:absolute;transform:translateX(-50%);white-space:nowrap}
.fall{display:grid;grid-template-columns:max-content 1fr max-content;gap:6px 16px;align-items:center;font-size:14px}
.fall svg{display:block;width:100%;height:16px}.fall rect{fill:var(--c0)}.fall .n{text-align:right}
.card{border:1px solid var(--line);border-left:4px solid var(--c0);border-radius:6px;padding:12px 16px;margin:14px 0}
.card.warning{border-left-color:var(--warn)}.card.critical{border-left-color:var(--bad)}
.card header{display:flex;flex-wrap:wrap;gap:2px 12px;align-items:baseline}
.card .figure{margin-left:auto;font-weight:600}
.card table{margin:8px 0}
details{margin-top:8px}summary{cursor:pointer;color:var(--dim);font-size:14px}
.page{border-left:2px solid var(--line);padding-left:16px;margin-top:8px;font-size:14px}
.page h1{font-size:15px}.page h2{font-size:14px;border:0;margin:12px 0 4px}
.facts{columns:2;column-gap:40px}.facts div{display:flex;gap:12px;break-inside:avoid;padding:3px 0;
border-bottom:1px solid var(--line)}.facts dt{color:var(--dim);flex:0 0 150px}
.facts dd{margin:0;min-width:0}dl{margin:0}
@media (max-width:640px){body{padding:16px 16px 40px}h1{font-size:20px}.facts{columns:1}
.time{grid-template-columns:1fr;gap:2px}.time svg{margin-bottom:8px}.facts dt{flex-basis:110px}}
@media print{:root{color-scheme:light;--bg:#fff;--fg:#000;--dim:#444;--line:#ccc;--soft:#f3f3f3;
--c0:#2f6fb0;--c1:#c2711b;--c2:#3d8b5f;--c3:#8a5aa8;--bad:#b3372f;--warn:#a96a08}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}
body{padding:0;max-width:none;font-size:10pt}table,.page,.time,.fall,summary{font-size:9pt}
code,pre,th,.meta,figcaption,.axis{font-size:8.5pt}h2{margin-top:24px}
h1,h2,h3,header,header+p,.card>.meta,summary,figcaption{break-after:avoid}p{orphans:3;widows:3}
tr,figure,.fall,.time,.head,.facts div,pre,header,header+p{break-inside:avoid}
.card>.wide,.card>.wide table{break-inside:avoid}
.wide,pre{overflow:visible}pre{white-space:pre-wrap}dd,code,pre{overflow-wrap:anywhere}
.wide td.w:first-child{min-width:0}.facts{columns:1}
details::details-content{content-visibility:visible;display:block;height:auto}
summary{list-style:none;font-weight:600}summary::-webkit-details-marker{display:none}}
"""
