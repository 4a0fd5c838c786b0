// Widgets in a kernel, against the states that ipywidgets itself sends (test/peers/widgets.py).
import { readFileSync } from 'node:fs';
import { expect } from 'chai';
import type { Json, Message } from '../../src/kernel/message.ts';
import { TestKernel } from '../kernel/support.ts';

interface Case {
  name: string;
  options: Record<string, unknown>;
  state: Json;
  style?: Json;
}

const { cases } = JSON.parse(
  readFileSync(new URL('../peers/widgets.json', import.meta.url), 'utf8'),
) as { cases: Case[] };

function isReference(value: unknown): value is string {
  return typeof value === 'string' && value.startsWith('IPY_MODEL_');
}

/** State with references as the golden file has them. */
function plain(state: Json): Json {
  return JSON.parse(JSON.stringify(state).replace(/"IPY_MODEL_[^"]*"/g, '"IPY_MODEL_*"')) as Json;
}

describe('Widgets', () => {
  const kernel = new TestKernel();
  const seen: Message[] = [];
  const stateOf = (id: string): Json => {
    const opened = seen.find((m) => m.header.msg_type === 'comm_open' && m.content.comm_id === id);
    return (opened!.content.data as { state: Json }).state;
  };
  const modelOf = async (code: string): Promise<string> => {
    const { messages, reply } = await kernel.run(code);
    expect(reply.status, JSON.stringify(reply)).to.equal('ok');
    const shown = messages.find((m) => m.header.msg_type === 'display_data')!.content.data as Json;
    return (shown['application/vnd.jupyter.widget-view+json'] as { model_id: string }).model_id;
  };
  const send = async (id: string, data: Json): Promise<Message[]> => {
    const from = seen.length;
    await kernel.client.send('shell', 'comm_msg', { comm_id: id, data });
    const status = (state: string) => (m: Message) =>
      m.parent_header.msg_type === 'comm_msg' && m.content.execution_state === state;
    while (!seen.slice(from).some(status('idle'))) await new Promise((r) => setTimeout(r, 5));
    const parent = seen.slice(from).find(status('busy'))!.parent_header.msg_id;
    return seen.slice(from).filter((m) => m.parent_header.msg_id === parent);
  };

  before(async () => {
    await kernel.start();
    kernel.client.onMessage = (message) => void seen.push(message);
    await kernel.run("import * as w from 'peftlab/widgets'");
  });
  after(() => kernel.stop());

  for (const { name, options, state, style } of cases) {
    it(`opens ${name} with the state that ipywidgets gives it`, async () => {
      const camel = Object.fromEntries(
        Object.entries(options).map(([key, value]) => [
          key.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase()),
          value,
        ]),
      );
      const given = Object.keys(camel).length > 0 ? JSON.stringify(camel) : '';
      const id =
        name === 'Layout'
          ? (await kernel.run('new w.Layout().modelId')).value!.replaceAll("'", '')
          : await modelOf(`display(new w.${name}(${given}))`);
      const own = stateOf(id);
      expect(plain(own)).to.deep.equal(state);
      if (!style) return;
      expect(isReference(own.style)).to.equal(true);
      expect(stateOf(String(own.style).slice('IPY_MODEL_'.length))).to.deep.equal(style);
    });
  }

  it('tells observers what a hand has moved, and echoes it as the answer to that message', async () => {
    const id = await modelOf(
      'const moved: number[] = []; const s = new w.FloatSlider({ max: 10 }); s.observe((c) => void moved.push(c.new)); display(s)',
    );
    const answers = await send(id, { method: 'update', state: { value: 2.5 }, buffer_paths: [] });
    expect(answers.map((m) => m.content.data).filter(Boolean)).to.deep.equal([
      { method: 'echo_update', state: { value: 2.5 }, buffer_paths: [] },
    ]);
    expect(await kernel.value('`${moved} ${s.value}`')).to.equal("'2.5 2.5'");
  });

  it('brings a value back within its limits, and says so', async () => {
    const id = await modelOf('const b = new w.IntSlider({ value: 50, max: 10 }); display(b)');
    expect(stateOf(id).value).to.equal(10);
    const answers = await send(id, { method: 'update', state: { value: 99 }, buffer_paths: [] });
    const updates = answers
      .map((m) => m.content.data as Json)
      .filter((d) => d?.method === 'update');
    expect(updates).to.deep.equal([{ method: 'update', state: { value: 10 }, buffer_paths: [] }]);
    expect(await kernel.value('b.max = 4; b.value')).to.equal('4');
    expect(await kernel.value('new w.IntSlider({ min: 3, max: 1 })')).to.equal(
      'RangeError: min must not be above max, got 3 and 1',
    );
    expect(await kernel.value('new w.Checkbox({ vale: 1 } as object)')).to.equal(
      "TypeError: Checkbox has no property 'vale'; have description, descriptionAllowHtml, disabled, value, indent, layout, style, tooltip, tabbable",
    );
  });

  it('keeps the front end waiting until an asynchronous handler is done, and prints as its answer', async () => {
    const id = await modelOf(
      "const button = new w.Button({ description: 'Run' }); button.onClick(async () => { await new Promise((r) => setTimeout(r, 60)); console.log('clicked') }); display(button)",
    );
    const answers = await send(id, { method: 'custom', content: { event: 'click' } });
    expect(answers.map((m) => m.content.text ?? m.content.execution_state)).to.deep.equal([
      'busy',
      'clicked\n',
      'idle',
    ]);
  });

  it('an error in a handler is printed, and an interrupt ends a handler that loops', async () => {
    const id = await modelOf(
      "const faulty = new w.Button(); let loops = false; faulty.onClick(() => { if (loops) while (true) {} throw new Error('no') }); display(faulty)",
    );
    const click = { method: 'custom', content: { event: 'click' } };
    const [, printed] = await send(id, click);
    expect(printed!.content).to.include({ name: 'stderr' });
    expect(String(printed!.content.text)).to.contain('no');
    await kernel.run('loops = true');
    const looping = send(id, click);
    setTimeout(() => void kernel.client.interrupt(), 200);
    await looping;
    expect(await kernel.value('loops = false; 1 + 1')).to.equal('2');
  });

  it('chooses among labels, pairs and records', async () => {
    const id = await modelOf(
      'const d = new w.Dropdown({ options: { small: 1, large: 100 }, value: 100 }); const chosen: unknown[] = []; d.observe((c) => void chosen.push(c.new)); display(d)',
    );
    expect(stateOf(id)).to.include({ index: 1 });
    await send(id, { method: 'update', state: { index: 0 }, buffer_paths: [] });
    expect(await kernel.value('[d.value, d.label, ...chosen].join()')).to.equal("'1,small,1'");
    expect(await kernel.value('d.value = 7')).to.equal(
      'RangeError: Dropdown.value must be one of its options, got 7; have small, large',
    );
    expect(
      await kernel.value(
        "const p = new w.SelectMultiple({ options: [['a', 1], ['b', 2]], value: [2] }); p.value",
      ),
    ).to.equal('[ 2 ]');
  });

  it('gives all states, with boxes referring to their children, to a page loaded anew', async () => {
    await kernel.run('const kept = new w.VBox([new w.Label({ value: "x" })])');
    const from = seen.length;
    const control = { comm_id: 'control', target_name: 'jupyter.widget.control', data: {} };
    await kernel.client.send('shell', 'comm_open', control);
    await send('control', { method: 'request_states' });
    const answer = seen.slice(from).find((m) => m.content.comm_id === 'control')!.content.data as {
      states: Record<string, { model_name: string; state: Json }>;
    };
    const box = Object.values(answer.states).findLast((s) => s.model_name === 'VBoxModel')!;
    const [child] = box.state.children as string[];
    const label = answer.states[child!.slice('IPY_MODEL_'.length)];
    expect(label).to.include({ model_name: 'LabelModel' });
    expect(label!.state.value).to.equal('x');
  });

  it('an Output takes up what a function prints, and only that', async () => {
    const { messages } = await kernel.run(
      "const out = new w.Output(); out.capture(() => console.log('inside')); console.log('outside')",
    );
    const steps = messages.flatMap((m) => {
      const data = m.content.data as { method?: string; state?: Json } | undefined;
      if (data?.method === 'update') return [data.state!.msg_id];
      return m.header.msg_type === 'stream' ? [m.content.text] : [];
    });
    expect(steps).to.deep.equal([messages[0]!.parent_header.msg_id, 'inside\n', '', 'outside\n']);
  });

  it('interact runs a function anew and replaces what it gave', async () => {
    const { messages } = await kernel.run(
      'const controls = w.interact(({ rank, bold }) => `rank ${rank} ${bold}`, { rank: 8, bold: true });',
    );
    const shown = messages.filter((m) => m.header.msg_type === 'display_data');
    expect(shown).to.have.length(2);
    expect(shown[1]!.content.data).to.deep.equal({ 'text/plain': "'rank 8 true'" });
    const { messages: updates } = await kernel.run('controls.rank.value = 9');
    const update = updates.find((m) => m.header.msg_type === 'update_display_data')!;
    expect(update.content.data).to.deep.equal({ 'text/plain': "'rank 9 true'" });
    expect(update.content.transient).to.deep.equal(shown[1]!.content.transient);
  });

  it('links properties both ways', async () => {
    await kernel.run(
      "const a = new w.IntSlider(); const c = new w.IntText(); const end = w.link([a, 'value'], [c, 'value'])",
    );
    expect(await kernel.value('a.value = 5; c.value')).to.equal('5');
    expect(await kernel.value('c.value = 6; a.value')).to.equal('6');
    expect(await kernel.value('end(); c.value = 7; a.value')).to.equal('6');
  });
});
