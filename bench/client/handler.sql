SELECT bench.pay(:request);
