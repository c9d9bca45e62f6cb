/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/pace.h"

static unsigned int at_most(unsigned int a, unsigned int max)
{
	return a < max ? a : max;
}

/* What the workers used of what they could have, in per cent. */
static unsigned int share(const struct pace_width *p, const struct pace_limits *lim,
			  const struct pace_load *load)
{
	return load->used / at_most(p->level, lim->cpus);
}

/* Half a sleep for each request: while some wait, nobody sleeps for want of them. */
static unsigned int useful(const struct pace_width *p, const struct pace_limits *lim,
			   const struct pace_load *load)
{
	bool sleep = load->slept * 2 >= load->taken &&
		     share(p, lim, load) < PACE_SLEEP_PERCENT;

	return sleep ? lim->workers : at_most(lim->cpus, lim->workers);
}

/* Readers are idle, or the processors are what more workers would wait for. */
static bool has_spare(const struct pace_width *p, const struct pace_limits *lim,
		      const struct pace_load *load)
{
	return p->level > PACE_BASE &&
	       (load->reading > 0 ||
		(p->level > lim->cpus && share(p, lim, load) > PACE_WORK_PERCENT));
}

unsigned int pace_width(struct pace_width *p, const struct pace_limits *lim,
			const struct pace_load *load)
{
	if (has_spare(p, lim, load)) {
		if (++p->spare >= PACE_SPARE_TICKS) {
			p->spare = 0;
			p->level--;
		}
	} else if (load->reading == 0) {
		unsigned int max = useful(p, lim, load);

		p->spare = 0;
		if (load->queued && p->level < max)
			p->level = at_most(2 * p->level, max);
	}
	return p->level;
}

static void begin_window(struct pace_lone *p, uint64_t now_ns, uint64_t cnt)
{
	p->samples = 0;
	p->since_ns = now_ns;
	p->since_cnt = cnt;
}

static uint64_t window_each_ns(const struct pace_lone *p, uint64_t now_ns, uint64_t cnt)
{
	return (now_ns - p->since_ns) / (cnt - p->since_cnt);
}

static int leave(struct pace_lone *p, uint64_t now_ns, uint64_t cnt, uint64_t pause_ns)
{
	p->on = false;
	p->not_before_ns = now_ns + pause_ns;
	begin_window(p, now_ns, cnt);
	return PACE_LEAVE;
}

static uint64_t next_pause(struct pace_lone *p)
{
	uint64_t pause = p->pause_ns ? p->pause_ns : PACE_PAUSE_NS;

	p->pause_ns = pause < PACE_PAUSE_MAX_NS / 2 ? 2 * pause : PACE_PAUSE_MAX_NS;
	return pause;
}

static int sample_off(struct pace_lone *p, uint64_t now_ns, uint64_t cnt, bool calm)
{
	if (!calm || now_ns < p->not_before_ns) {
		begin_window(p, now_ns, cnt);
		return 0;
	}
	if (++p->samples < PACE_CALM_SAMPLES)
		return 0;
	p->before_ns = window_each_ns(p, now_ns, cnt);
	p->on = true;
	p->queued = p->looks = 0;
	begin_window(p, now_ns, cnt);
	return PACE_ENTER | PACE_LOOK;
}

/* At least a tenth less than without. */
static bool pays(struct pace_lone *p, uint64_t each_ns)
{
	return each_ns * 10 <= p->before_ns * 9;
}

static int sample_on(struct pace_lone *p, uint64_t now_ns, uint64_t cnt, bool calm,
		     uint64_t each_ns)
{
	p->queued = calm ? 0 : p->queued + 1;
	if (p->queued >= 2)
		return leave(p, now_ns, cnt, PACE_LEFT_NS);
	if (++p->samples == PACE_SETTLE_SAMPLES) {
		p->since_ns = now_ns;
		p->since_cnt = cnt;
	} else if (p->samples == PACE_SETTLE_SAMPLES + PACE_WINDOW_SAMPLES) {
		if (!pays(p, window_each_ns(p, now_ns, cnt)))
			return leave(p, now_ns, cnt, next_pause(p));
		p->pause_ns = 0;
		begin_window(p, now_ns, cnt);
		p->samples = PACE_SETTLE_SAMPLES;
	}
	/* The caller may be somewhere else now. */
	if (++p->looks < PACE_LOOK_SAMPLES && each_ns * 10 <= p->before_ns * 6)
		return 0;
	p->looks = 0;
	return PACE_LOOK;
}

int pace_sample(struct pace_lone *p, uint64_t now_ns, uint64_t cnt, bool calm)
{
	uint64_t each_ns;

	if (cnt == p->last_cnt)
		return 0;
	each_ns = (now_ns - p->last_ns) / (cnt - p->last_cnt);
	p->last_ns = now_ns;
	p->last_cnt = cnt;
	if (!p->on)
		return sample_off(p, now_ns, cnt, calm && each_ns < PACE_SLOW_NS);
	if (each_ns >= PACE_SLOW_NS)
		return leave(p, now_ns, cnt, 0);
	return sample_on(p, now_ns, cnt, calm, each_ns);
}

void pace_given_up(struct pace_lone *p, uint64_t now_ns, bool queued)
{
	if (p->on)
		(void)leave(p, now_ns, p->last_cnt, queued ? next_pause(p) : 0);
}
